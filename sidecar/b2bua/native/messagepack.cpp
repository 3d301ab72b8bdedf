#include "messagepack.hpp"

#include <algorithm>

namespace sidecar {
namespace {

// The length of the character that the text begins with (Unicode 15, table 3-7); 0: there is none.
std::size_t character(std::string_view text) {
    const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
    const auto follows = [&](std::size_t from, std::size_t to) {
        for (std::size_t i = from; i < to; ++i) {
            if ((at(i) & 0xc0u) != 0x80) return false;
        }
        return true;
    };
    const unsigned first = at(0), second = at(1);
    if (first < 0x80) return 1;
    if (first >= 0xc2 && first <= 0xdf) return follows(1, 2) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        const unsigned low = first == 0xe0 ? 0xa0 : 0x80, high = first == 0xed ? 0x9f : 0xbf;  // no surrogates
        return second >= low && second <= high && follows(2, 3) ? 3 : 0;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        const unsigned low = first == 0xf0 ? 0x90 : 0x80, high = first == 0xf4 ? 0x8f : 0xbf;
        return second >= low && second <= high && follows(2, 4) ? 4 : 0;
    }
    return 0;
}

}  // namespace

void Packer::big_endian(std::uint64_t value, int bytes) {
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) bytes_ += static_cast<char>(value >> shift & 0xff);
}

void Packer::head(std::size_t items, unsigned char fixed, unsigned char two_bytes) {
    if (items < 16) {
        bytes_ += static_cast<char>(fixed | items);
    } else if (items < 1 << 16) {
        bytes_ += static_cast<char>(two_bytes);
        big_endian(items, 2);
    } else {
        bytes_ += static_cast<char>(two_bytes + 1);
        big_endian(items, 4);
    }
}

void Packer::pack(std::int64_t value) {
    if (value >= 0 && value < 128) {
        bytes_ += static_cast<char>(value);
    } else {
        bytes_ += '\xd3';
        big_endian(static_cast<std::uint64_t>(value), 8);
    }
}

void Packer::word(std::string_view ascii) {
    bytes_ += static_cast<char>(0xa0 | ascii.size());
    bytes_ += ascii;
}

void Packer::text(std::string_view value) {
    if (value.size() > text_bytes_max) {
        value = value.substr(0, text_bytes_max);
        counters_.add(Counter::texts_cut);
    }
    if (std::any_of(value.begin(), value.end(), [](char c) { return (c & 0x80) != 0; })) {
        escaped(value);
        value = scratch_;
    }
    if (value.size() < 32) return word(value);
    if (value.size() < 256) {
        bytes_ += '\xd9';
        big_endian(value.size(), 1);
    } else {
        bytes_ += '\xda';
        big_endian(value.size(), 2);
    }
    bytes_ += value;
}

void Packer::escaped(std::string_view value) {
    static constexpr char digits[] = "0123456789abcdef";
    scratch_.clear();
    while (!value.empty()) {
        const std::size_t length = character(value);
        if (length > 0) {
            scratch_ += value.substr(0, length);
        } else {
            const auto byte = static_cast<unsigned char>(value.front());
            scratch_.append("\\x").append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
        }
        value.remove_prefix(std::max<std::size_t>(length, 1));
    }
}

}  // namespace sidecar

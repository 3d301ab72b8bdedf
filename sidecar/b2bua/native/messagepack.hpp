// Values to MessagePack, as much of it as events need (github.com/msgpack/msgpack/blob/master/spec.md).
#pragma once

#include "counters.hpp"
#include "declared.hpp"

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace sidecar {

// Text from the network may be any bytes, and what is written here must be UTF-8, or a decoder would raise: a byte that
// belongs to no character is written \xNN, as Python's `backslashreplace` does. Not thread-safe; used again and again, so
// that packing allocates nothing.
class Packer {
public:
    explicit Packer(Counters& counters) : counters_(counters) {}

    static constexpr std::size_t text_bytes_max = 2048;  // a longer text is cut and counted

    void array(std::size_t items) { head(items, 0x90, 0xdc); }
    void map(std::size_t items) { head(items, 0x80, 0xde); }
    void nil() { bytes_ += '\xc0'; }
    void word(std::string_view ascii);  // of our own, shorter than 32 bytes
    void text(std::string_view value);

    void pack(bool value) { bytes_ += value ? '\xc3' : '\xc2'; }
    void pack(std::int64_t value);
    void pack(std::uint64_t value) { pack(static_cast<std::int64_t>(value)); }
    void pack(int value) { pack(static_cast<std::int64_t>(value)); }
    void pack(std::string_view value) { text(value); }
    void pack(const std::string& value) { text(value); }
    void pack(Detail value) { text(value.word); }
    void pack(const IdSet& value) { pack(value.ids); }
    template <Word T>
    void pack(T value) {
        const auto said = Words<T>::said(value);
        if constexpr (std::integral<decltype(said)>) {
            pack(said);
        } else {
            word(said);
        }
    }
    template <typename T>
    void pack(const std::vector<T>& values) {
        array(values.size());
        for (const T& value : values) pack(value);
    }
    template <typename T>
    void pack(const std::optional<T>& value) {
        value ? pack(*value) : nil();
    }
    template <typename A, typename B>
    void pack(const std::pair<A, B>& value) {
        array(2);
        pack(value.first);
        pack(value.second);
    }
    template <Declared T>
    void pack(const T& value) {  // by name
        map(count_of_fields<T>());
        T::each_field(value, [this](const char* field, const auto& item) {
            word(field);
            pack(item);
        });
    }
    template <Declared T>
    void pack_fields(const T& value) {  // in order, into an array
        T::each_field(value, [this](const char*, const auto& item) { pack(item); });
    }
    template <Declared T>
    static std::size_t count_of_fields() {
        static const std::size_t count = described<T>().size();
        return count;
    }

    std::string_view packed() const { return bytes_; }
    void clear() { bytes_.clear(); }

private:
    void head(std::size_t items, unsigned char fixed, unsigned char two_bytes);
    void big_endian(std::uint64_t value, int bytes);
    void escaped(std::string_view value);

    Counters& counters_;
    std::string bytes_;
    std::string scratch_;
};

}  // namespace sidecar

// The token buckets at times of the test's own choice.
#include "source_limit.hpp"

#include <cstdio>
#include <cstdlib>

using namespace sidecar;

static void expect(bool right, const char* what) {
    if (right) return;
    std::printf("not so: %s\n", what);
    std::exit(1);
}

static Address ipv4(std::uint32_t number) {
    Address address{};
    address[10] = address[11] = 0xff;
    for (std::size_t i = 0; i < 4; ++i) address[12 + i] = static_cast<std::uint8_t>(number >> (24 - 8 * i));
    return address;
}

static Address ipv6(std::uint8_t network, std::uint8_t host) {
    Address address{};
    address[0] = 0x20;
    address[7] = network;
    address[15] = host;
    return address;
}

int main() {
    constexpr std::int64_t s = 1'000'000'000, began = 1000 * s;
    {
        SourceLimit limit;
        int taken = 0;
        for (int i = 0; i < 100; ++i) taken += limit.allows(ipv4(1), 10, began);
        expect(taken == 10, "a full bucket holds one second's worth");
        expect(limit.allows(ipv4(2), 10, began), "another source has a bucket of its own");
        expect(!limit.allows(ipv4(1), 10, began + s / 20), "half a token is none");
        expect(limit.allows(ipv4(1), 10, began + s / 10), "one comes back every tenth of a second");
        expect(!limit.allows(ipv4(1), 10, began + s / 10), "and only one");
        taken = 0;
        for (int i = 0; i < 1000; ++i) taken += limit.allows(ipv4(1), 10, began + 10 * s + i * s / 100);
        expect(taken >= 100 && taken <= 110, "ten seconds at ten times the rate: a tenth, and what was saved up");
        expect(limit.allows(ipv4(3), 1, began) && !limit.allows(ipv4(3), 1, began), "one a second");
    }
    {
        SourceLimit limit;
        std::size_t taken = 0;
        for (std::uint32_t i = 0; i < 100'000; ++i) taken += limit.allows(ipv4(i), 10, began);
        expect(taken == SourceLimit::sources_max && limit.size() == taken, "the table is bounded");
        expect(limit.allows(ipv4(5), 10, began), "those in it go on");
        expect(!limit.allows(ipv4(200'000), 10, began + s / 2), "the last sweep was less than a second ago");
        expect(limit.allows(ipv4(200'000), 10, began + 2 * s), "the silent ones make room");
        expect(limit.size() == 1, "all of them");
    }
    expect(as_source(ipv6(1, 1)) == as_source(ipv6(1, 2)), "a /64 is one source");
    expect(as_source(ipv6(1, 1)) != as_source(ipv6(2, 1)), "two are two");
    expect(as_source(ipv4(1)) != as_source(ipv4(2)), "IPv4 addresses are all different");
    std::puts("all is so");
}

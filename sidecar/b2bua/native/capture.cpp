#include "capture.hpp"

#include "text.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>

namespace sidecar {
namespace {

constexpr std::size_t datagram_bytes_max = 65'507;
constexpr std::size_t held_bytes_max = 4 << 20;
constexpr std::size_t held_of_a_call_max = 16;
constexpr std::size_t ended_max = 100'000;

enum Chunk : std::uint16_t {  // of vendor 0
    ip_family = 1,
    ip_protocol = 2,
    ip4_source = 3,
    ip4_destination = 4,
    ip6_source = 5,
    ip6_destination = 6,
    source_port = 7,
    destination_port = 8,
    time_s = 9,
    time_us = 10,
    content = 11,
    node = 12,
    key = 14,
    payload = 15,
    correlation = 17,
};
constexpr std::uint8_t content_sip = 1;

void put(std::string& to, std::uint64_t number, int bytes) {
    for (int i = bytes - 1; i >= 0; --i) to.push_back(static_cast<char>(number >> (8 * i)));
}

void put(std::string& to, Chunk chunk, std::string_view bytes) {
    put(to, 0, 2);
    put(to, chunk, 2);
    put(to, 6 + bytes.size(), 2);
    to.append(bytes);
}

void put(std::string& to, Chunk chunk, std::uint64_t number, int bytes) {
    put(to, 0, 2);
    put(to, chunk, 2);
    put(to, 6 + static_cast<std::uint64_t>(bytes), 2);
    put(to, number, bytes);
}

std::string_view address_bytes(const pj_sockaddr& of) {
    return {static_cast<const char*>(pj_sockaddr_get_addr(&of)), pj_sockaddr_get_addr_len(&of)};
}

// Where `transport` receives; that of a socket on all addresses is the one that pjsip names in its Via.
pj_sockaddr local_address(const pjsip_transport* transport) {
    pj_sockaddr local = transport->local_addr;
    if (!pj_sockaddr_has_addr(&local)) {
        pj_str_t host = transport->local_name.host;
        pj_sockaddr named{};
        if (pj_sockaddr_init(local.addr.sa_family, &named, &host, pj_sockaddr_get_port(&local)) == PJ_SUCCESS) local = named;
    }
    return local;
}

bool is_udp(const pjsip_transport* transport) { return (transport->key.type & ~PJSIP_TRANSPORT_IPV6) == PJSIP_TRANSPORT_UDP; }

// Answers to challenges, and keys of media, are nobody's business who looks at calls: stars stand in their place.
void mask_secrets(char* text, std::size_t length) {
    static constexpr std::array<std::string_view, 3> secret{"authorization:", "proxy-authorization:", "a=crypto:"};
    char* const end = text + length;
    bool is_secret = false;
    for (char* line = text; line < end;) {
        auto* next = static_cast<char*>(std::memchr(line, '\n', static_cast<std::size_t>(end - line)));
        next = next == nullptr ? end : next + 1;
        const auto size = static_cast<std::size_t>(next - line);
        char* from = line;
        if (*line != ' ' && *line != '\t') {  // else it goes on (RFC 3261 §7.3.1)
            is_secret = false;
            for (const auto name : secret) {
                const auto colon = name.size() - 1;
                if (size <= colon || strncasecmp(line, name.data(), colon) != 0) continue;
                char* at = line + colon;
                while (at < next && (*at == ' ' || *at == '\t')) ++at;
                if (at == next || *at != ':') continue;
                is_secret = true;
                from = at + 1;
            }
        }
        for (char* at = from; is_secret && at < next; ++at) {
            if (*at != '\r' && *at != '\n' && *at != ' ' && *at != '\t') *at = '*';
        }
        line = next;
    }
}

}  // namespace

Capture::~Capture() { close(); }

void Capture::close() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
}

void Capture::set(const Collector& to) {
    if (to.host == collector_.host && to.port == collector_.port) {
        collector_ = to;
        return;
    }
    close();
    collector_ = to;
    if (is_on()) return open();
    calls_.clear();
    bridge_ids_.clear();
    ended_.clear();
    held_bytes_ = 0;
}

// Connected, so that the kernel says that the collector is away. What cannot be reached now is tried again by tick().
void Capture::open() {
    pj_str_t host = borrow(collector_.host);
    pj_sockaddr to{};
    const bool ipv6 = collector_.host.find(':') != std::string::npos;
    if (pj_sockaddr_init(ipv6 ? pj_AF_INET6() : pj_AF_INET(), &to, &host, static_cast<pj_uint16_t>(collector_.port)) != PJ_SUCCESS) return;
    socket_ = ::socket(ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (socket_ < 0) return;
    if (::connect(socket_, reinterpret_cast<const sockaddr*>(&to), static_cast<socklen_t>(pj_sockaddr_get_len(&to))) != 0) close();
}

// --- calls -----------------------------------------------------------------------------------------------------------

void Capture::join(std::uint64_t bridge_id, std::string_view sip_call_id, bool begins) {
    if (!is_on()) return;
    auto found = calls_.find(bridge_id);
    if (found == calls_.end()) {
        if (!begins) return;
        found = calls_.try_emplace(bridge_id).first;
    }
    std::string name(sip_call_id);
    bridge_ids_[name] = bridge_id;  // of two calls with one Call-ID, as an INVITE that answers a challenge, the later has it
    found->second.sip_call_ids.push_back(std::move(name));
}

void Capture::decide(std::uint64_t bridge_id, const std::string& correlation_id) {
    const auto found = calls_.find(bridge_id);
    if (found == calls_.end()) return;
    Captured& call = found->second;
    if (correlation_id.empty()) {
        for (const auto& packet : call.held) held_bytes_ -= packet.size();
        call.held.clear();
        return forget(bridge_id);
    }
    call.correlation_id = correlation_id;
    for (auto& packet : call.held) {
        held_bytes_ -= packet.size();
        send(packet, correlation_id);
    }
    call.held.clear();
    call.held.shrink_to_fit();
}

void Capture::leave(std::uint64_t bridge_id, unsigned repeats_ms) {
    if (!calls_.contains(bridge_id)) return;
    ended_.emplace_back(Moment::now().mono_ns + repeats_ms * 1'000'000LL, bridge_id);
    if (ended_.size() <= ended_max) return;
    forget(ended_.front().second);
    ended_.pop_front();
}

void Capture::tick() {
    if (!is_on()) return;
    if (socket_ < 0) open();
    const std::int64_t now_ns = Moment::now().mono_ns;
    for (; !ended_.empty() && ended_.front().first <= now_ns; ended_.pop_front()) forget(ended_.front().second);
}

void Capture::forget(std::uint64_t bridge_id) {
    const auto found = calls_.find(bridge_id);
    if (found == calls_.end()) return;
    for (const auto& packet : found->second.held) {
        held_bytes_ -= packet.size();
        counters_.add(Counter::hep_dropped);
    }
    for (const auto& name : found->second.sip_call_ids) {
        const auto named = bridge_ids_.find(name);
        if (named != bridge_ids_.end() && named->second == bridge_id) bridge_ids_.erase(named);
    }
    calls_.erase(found);
}

Capture::Captured* Capture::of(std::string_view sip_call_id) {
    const auto named = bridge_ids_.find(std::string(sip_call_id));
    if (named == bridge_ids_.end()) return nullptr;
    const auto found = calls_.find(named->second);
    return found == calls_.end() ? nullptr : &found->second;
}

// --- messages --------------------------------------------------------------------------------------------------------

bool Capture::received(const pjsip_rx_data* message, const Moment& at) {
    if (!is_on() || message->msg_info.cid == nullptr) return false;
    Captured* call = of(view(message->msg_info.cid->id));
    if (call == nullptr) return false;
    const pjsip_transport* transport = message->tp_info.transport;
    take(*call, text_of(message), message->pkt_info.src_addr, local_address(transport), is_udp(transport), at.wall_ns);
    return true;
}

void Capture::sent(const pjsip_tx_data* message) {
    if (!is_on() || message->buf.start == nullptr || message->tp_info.transport == nullptr) return;
    const auto* cid = PJSIP_MSG_CID_HDR(message->msg);
    Captured* call = cid == nullptr ? nullptr : of(view(cid->id));
    if (call == nullptr) return;
    const pjsip_transport* transport = message->tp_info.transport;
    take(*call, {message->buf.start, static_cast<std::size_t>(message->buf.cur - message->buf.start)}, local_address(transport),
         message->tp_info.dst_addr, is_udp(transport), Moment::now().wall_ns);
}

void Capture::take(Captured& call, std::string_view text, const pj_sockaddr& from, const pj_sockaddr& to, bool udp,
                   std::int64_t wall_ns) {
    if (!call.correlation_id.empty()) {
        pack(text, from, to, udp, wall_ns);
        return send(packet_, call.correlation_id);
    }
    if (call.held.size() >= held_of_a_call_max || held_bytes_ + text.size() > held_bytes_max) {
        return counters_.add(Counter::hep_dropped);
    }
    pack(text, from, to, udp, wall_ns);
    call.held.push_back(packet_);
    held_bytes_ += packet_.size();
}

void Capture::pack(std::string_view text, const pj_sockaddr& from, const pj_sockaddr& to, bool udp, std::int64_t wall_ns) {
    const bool ipv6 = from.addr.sa_family == pj_AF_INET6();
    const auto source = address_bytes(from), destination = address_bytes(to);
    packet_.assign("HEP3");
    put(packet_, 0, 2);  // its length, once that is known
    put(packet_, ip_family, ipv6 ? AF_INET6 : AF_INET, 1);
    put(packet_, ip_protocol, udp ? IPPROTO_UDP : IPPROTO_TCP, 1);
    put(packet_, ipv6 ? ip6_source : ip4_source, source);
    put(packet_, ipv6 ? ip6_destination : ip4_destination, destination);
    put(packet_, source_port, pj_sockaddr_get_port(&from), 2);
    put(packet_, destination_port, pj_sockaddr_get_port(&to), 2);
    put(packet_, time_s, static_cast<std::uint64_t>(wall_ns / 1'000'000'000), 4);
    put(packet_, time_us, static_cast<std::uint64_t>(wall_ns / 1'000 % 1'000'000), 4);
    put(packet_, content, content_sip, 1);
    put(packet_, node, collector_.capture_id, 4);
    if (!collector_.key.empty()) put(packet_, key, collector_.key);
    const std::size_t begin = packet_.size() + 6;
    put(packet_, payload, text);
    mask_secrets(packet_.data() + begin, text.size());
}

void Capture::send(std::string& packet, const std::string& correlation_id) {
    put(packet, correlation, correlation_id);
    if (packet.size() > datagram_bytes_max || socket_ < 0) return counters_.add(Counter::hep_dropped);
    packet[4] = static_cast<char>(packet.size() >> 8);
    packet[5] = static_cast<char>(packet.size());
    const auto taken = ::send(socket_, packet.data(), packet.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    counters_.add(taken < 0 ? Counter::hep_dropped : Counter::hep_sent);
}

}  // namespace sidecar

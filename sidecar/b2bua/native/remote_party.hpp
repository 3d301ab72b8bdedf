// The other end of a dialog, as far as addresses tell: whom messages that name the dialog may come from.
#pragma once

#include "address.hpp"
#include "context.hpp"

#include <pjsip.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sidecar {

// An address of the party itself is the one that its INVITE or its answer came from, or that it names in Via, Contact or
// Record-Route: whatever it names, it gives away nobody's dialog but its own. Others of its peer group speak for it only where
// the group shares its dialogs, as a pair of proxies does. In a group of many customers each would else be able to end the
// calls of all.
class RemoteParty {
public:
    static constexpr std::size_t addresses_max = 16;

    void is_caller(const Context& context, const pjsip_rx_data* invite);
    void was_caller(const Context& context, const pj_sockaddr& address, std::string_view peer, bool secure);  // of an earlier boot
    // `gateway` where it is one: each of the servers that its name has, and had when the call began, may speak for it.
    void is_called(const Context& context, const pj_sockaddr& address, bool secure, const std::string& gateway);
    // In Contact or Record-Route; a name that is neither an address nor a gateway's is none.
    void named(const Context& context, const pjsip_uri* uri);
    void answered(const pjsip_rx_data* response);

    bool speaks_in(const Context& context, const pjsip_rx_data* message) const;
    // The group that a message comes from, by the settings that this dialog began with.
    const PeerGroup& sender(const Context& context, const pjsip_rx_data* message) const;

    const std::string& gateway() const { return gateway_; }
    const pj_sockaddr& address() const { return address_; }  // where its INVITE came from, or ours went
    const PeerGroup& group() const { return *group_; }
    bool trusted() const { return trusted_; }  // may be told who speaks (RFC 3325)

private:
    void add(const Address& address);
    void add_host(std::string_view host);
    bool is_own(const Address& address) const;
    bool is_server(const Context& context, const Address& address) const;

    pj_sockaddr address_{};
    std::shared_ptr<const PeerTable> peers_;  // as it began: it goes on with them
    const PeerGroup* group_ = &PeerTable::unlisted;
    bool trusted_ = false;
    bool caller_ = false;
    bool secure_ = false;  // over TLS
    std::string gateway_;
    Servers servers_;  // of the gateway, as the call began
    std::vector<Address> own_;  // the first is that of address_
};

}  // namespace sidecar

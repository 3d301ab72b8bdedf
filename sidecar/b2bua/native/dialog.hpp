// One dialog as RFC 3261 §12 defines it: the names both ends know it by, where its requests go, and its counters.
//
// Not pjsip_dialog. That one invents its own Call-ID, tag and branch (the journal must hold leg B's before its INVITE
// leaves), hands 2xx of other branches to pjsua, forbids to answer a request where it is received, updates targets on
// requests that are refused later, and costs 4 kB and two locks. What is needed of it is this file.
#pragma once

#include "context.hpp"
#include "digest.hpp"
#include "event.hpp"
#include "message.hpp"
#include "remote_party.hpp"

#include <pjsip.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace sidecar {

struct LegNames {  // see sidecar/core/identity.py, which derives the same
    std::string call_id;
    std::string tag;
    std::string branch;
    int cseq = 1;  // of its first INVITE: here alone, but as steady
};
LegNames leg_b_names(std::string_view b_token, int attempt);

struct Destination {
    std::string host;
    int port = 0;
    Transport transport = Transport::udp;
    std::string user;
    std::string parameters{}, to_parameters{};  // of the Request-URI and of To
    std::string authority{};  // host and port of both; empty: `host` and `port`
    std::string gateway{};
    std::string urn{};  // the Request-URI and To; empty: they are made of the rest
};

struct ShownCaller {
    const pjsip_fromto_hdr* received;
    std::string user;  // instead of the received one, escaped as a URI wants it; empty: that one
    bool anonymous = false;
    std::string parameters{};  // of the URI
};

// Owns a pool with its names, which never change, and one with the remote target, which a refresh replaces whole: a peer
// that refreshes for hours costs no memory. Holds a reference to the peer's connection where it is TCP or TLS.
class Dialog {
public:
    explicit Dialog(Context& context) : context_(context) {}
    ~Dialog();
    Dialog(const Dialog&) = delete;
    Dialog& operator=(const Dialog&) = delete;

    void start_uas(const pjsip_rx_data* invite);                      // §12.1.1
    bool start_uac(const LegNames& names, const Destination& to, const ShownCaller& caller);  // §12.1.2
    // No dialog: the names of a request outside any, which goes to `to` whatever its Request-URI `target` is. `to.user` is
    // that of our Contact; `local` and `remote` are URIs.
    bool start_alone(const LegNames& names, const Destination& to, const std::string& target, const std::string& local,
                     const std::string& remote, int cseq);
    // The dialog that another branch made with a response of its own: ours with other remote tag, target and routes.
    void start_fork(const Dialog& original, const pjsip_rx_data* response);
    // The same on leg A, where we are the branch: with a To tag of its own.
    void start_as_branch(const Dialog& original, int invite_cseq);
    void swap(Dialog& other);  // of the same leg

    // One of an earlier boot, as the journal has it. `peer`: the group that A called from. `transport`: the socket that the
    // peer calls, or null. False: it cannot be
    // read. Requests of ours count on well above the saved CSeq: in-dialog OPTIONS take numbers that no entry tells of.
    bool start_saved(const SavedLeg& leg, Side side, std::string_view peer, const std::string& gateway, pjsip_transport* transport);

    // After start_saved, where that boot has told all of it: requests go on with the next number.
    bool go_on_to_caller(const SavedLeg& leg, const std::string& dialled);
    bool go_on_to(const Destination& to, const SavedLeg& leg);

    // The same where ours is gone: all that is left of it is whom it was with. False: the answer is not from there.
    bool start_late(const pjsip_rx_data* answer, int invite_cseq, const RemoteParty& party);

    void learn(const pjsip_rx_data* response);  // remote tag, target and route set from a 101-2xx to our INVITE
    bool refresh_target(const std::string& uri);  // true where it changed

    void heard_on(pjsip_transport* transport);  // the peer may have opened a new connection
    void stay_with_udp() { udp_only_ = true; }  // however large a request is (RFC 3261 §18.1.1)
    void let_go_of(const pjsip_transport* transport);  // it is no way to the peer any more

    TxPtr request(const pjsip_method& method);  // takes the next CSeq
    TxPtr ack(int cseq, std::string_view branch);
    // Leg B alone: challenges of this gateway are ours to answer, where its profile has credentials.
    void answer_challenges_of(const std::string& gateway);
    bool answers_challenges() const { return digest_ != nullptr; }
    // The same request with the next CSeq and an answer to the challenge that it got; null where there is none to give.
    // `tries` counts them for one request.
    TxPtr again(const pjsip_tx_data* sent, const pjsip_rx_data* response, int& tries);

    void add_contact(pjsip_tx_data* tdata) const;
    const pjsip_contact_hdr* contact() const { return contact_; }
    LegIdentity identity() const;  // borrows from this

    std::string_view call_id() const { return view(call_id_->id); }
    std::string_view local_tag() const { return view(local_->tag); }
    std::string_view remote_tag() const { return view(remote_->tag); }
    bool established() const { return established_; }  // with whoever has that tag, which may be null (§12.1.2)
    const std::string& target() const { return target_text_; }
    const std::string& branch() const { return branch_; }
    int local_cseq() const { return local_cseq_; }
    int remote_cseq() const { return remote_cseq_; }
    void set_remote_cseq(int cseq) { remote_cseq_ = cseq; }

    const pjsip_fromto_hdr* remote() const { return remote_; }
    const RemoteParty& party() const { return party_; }
    const PeerGroup& group() const { return party_.group(); }
    bool trusts_peer() const { return party_.trusted(); }
    bool hears(const pjsip_rx_data* message) const { return party_.speaks_in(context_, message); }

private:
    void set_local(const pjsip_fromto_hdr* from_or_to, std::string_view tag);
    bool set_caller(const ShownCaller& caller, const std::string& here, std::string_view tag);
    void set_target(const pjsip_uri* uri);
    bool go_on(const SavedLeg& leg, const pjsip_uri* shown);
    void hold_connection(pjsip_transport* transport);
    void clone(const Dialog& original);
    TxPtr make(const pjsip_method& method, int cseq);
    void aim(pjsip_tx_data* tdata);
    const pj_sockaddr& place_of(std::string_view name);
    bool is_behind_nat(const pjsip_host_info& next) const;
    bool is_out_of_reach(const pjsip_host_info& next) const;
    void reconnect(pjsip_tx_data* tdata, const pjsip_host_info& next) const;
    void choose(pjsip_tx_data* tdata, pjsip_transport* transport) const;
    bool set_peer(const Destination& to);

    Context& context_;
    PoolPtr pool_;
    PoolPtr target_pool_;
    pjsip_from_hdr* local_ = nullptr;
    pjsip_to_hdr* remote_ = nullptr;
    pjsip_cid_hdr* call_id_ = nullptr;
    pjsip_contact_hdr* contact_ = nullptr;
    pjsip_uri* target_ = nullptr;
    std::string target_text_;
    pjsip_route_hdr* routes_ = nullptr;  // list head
    std::size_t route_count_ = 0;
    int local_cseq_ = 0;
    int remote_cseq_ = -1;
    std::string branch_;
    std::shared_ptr<Digest> digest_;  // of all dialogs of the leg; null: no credentials
    std::string local_address_;
    std::string remote_address_;
    Transport transport_ = Transport::udp;
    RemoteParty party_;
    std::string authority_;  // see Destination
    bool alone_ = false;  // see start_alone
    bool udp_only_ = false;
    bool is_uas_ = false;
    bool established_ = false;
    bool saved_ = false;  // its connection went with the earlier boot
    pjsip_transport* connection_ = nullptr;  // a reference is held
};

}  // namespace sidecar

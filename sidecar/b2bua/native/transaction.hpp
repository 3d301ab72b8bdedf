// pjsip's transactions, borrowed. The transaction layer owns each of them and frees it some time after it ended; a Tsx
// only holds the place where it is used, and lets go of it before its user dies, so pjsip never calls a dead user.
#pragma once

#include "context.hpp"
#include "event.hpp"

#include <pjsip.h>

#include <array>
#include <memory>
#include <unordered_map>

namespace sidecar {

struct TxRelease {
    void operator()(pjsip_tx_data* tdata) const { pjsip_tx_data_dec_ref(tdata); }
};
using TxPtr = std::unique_ptr<pjsip_tx_data, TxRelease>;  // owns one reference to a message on its way out

// pjsip would take PJSIP_MAX_PKT_LEN (64 kB) for the printed form of every message, and keep it as long as the transaction
// lives: 32 s for each ACK to a failure, which pjsip makes itself. Print it here and keep what it needs; the slack is for
// another Via, where pjsip has to take another transport and prints again into the same buffer.
using PrintedMessage = std::array<char, PJSIP_MAX_PKT_LEN>;
void fit_buffer(pjsip_tx_data* tdata, PrintedMessage& scratch);

Transport transport_of(int pjsip_type);

// Our UDP socket that a peer of an earlier boot called; another one where none listens there any more; null where the leg is
// not of UDP.
pjsip_transport* udp_transport_at(const SavedLeg& leg);

class RemoteParty;

class TsxUser {
public:
    virtual void on_tsx(pjsip_transaction* tsx, pjsip_event& event) = 0;
    virtual void on_cancel(pjsip_rx_data* cancel) {}  // CANCEL for a transaction of this user
    virtual const RemoteParty* asked_by() const { return nullptr; }  // whose request a server transaction of this user has
    static TsxUser* of(const pjsip_transaction* tsx);       // null: nobody waits for its news

protected:
    ~TsxUser() = default;
};

class Tsx {
public:
    explicit Tsx(Context& context) : context_(context) {}
    ~Tsx() { let_go(); }
    Tsx(const Tsx&) = delete;
    Tsx& operator=(const Tsx&) = delete;

    explicit operator bool() const { return tsx_ != nullptr; }
    pjsip_transaction* get() const { return tsx_; }
    bool is(const pjsip_transaction* tsx) const { return tsx != nullptr && tsx_ == tsx; }

    // Takes the request up as UAS. False where pjsip refuses it (a branch used twice).
    bool accept(pjsip_rx_data* rdata, TsxUser* user);

    // Sends the request. False where it could not leave: nothing is left behind, and the user is not called.
    bool send(TxPtr request, TsxUser* user);

    // False where the response could not leave: the transaction has been ended.
    bool respond(TxPtr response);

    // The peer has what it needs: keep the transaction for its repeats, but not for the 32 s of Timers H and J, which
    // would hold about 36 kB a call.
    void retire();

    // An INVITE that was refused: pjsip repeats the response and takes the ACK; it is counted until then.
    void wait_for_ack(PeerGroup::Id group);

    void let_go();  // the user wants no more news of it
    void take_over(Tsx& other, TsxUser* user);  // whose news are for this user from now on
    static void end(pjsip_transaction* tsx, int code);

private:
    Context& context_;
    pjsip_transaction* tsx_ = nullptr;
};

// INVITEs that were refused and whose ACK is awaited, 32 s at most. They belong to no call any more, but they take as much
// memory as one: whoever never acknowledges must not have any number of them, nor the places of others.
class Unacknowledged final : public TsxUser {
public:
    void take(pjsip_transaction* invite, PeerGroup::Id group);
    std::size_t count() const { return groups_.size(); }
    std::size_t count_of(PeerGroup::Id group) const;

    void on_tsx(pjsip_transaction* invite, pjsip_event& event) override;

private:
    std::unordered_map<const pjsip_transaction*, PeerGroup::Id> groups_;
    std::unordered_map<PeerGroup::Id, std::size_t> counts_;
};

// A request that nobody waits for (CANCEL; BYE to an answer that was dropped). False where it could not leave.
bool send_unattended(Context& context, TxPtr request);

// ACK to a 2xx: it has no transaction (RFC 3261 §13.2.2.4).
void send_ack(Context& context, TxPtr ack);

}  // namespace sidecar

// A request of our own to a gateway, outside any dialog: OPTIONS, to know whether it is there (RFC 3261 §11), or REGISTER,
// so that it knows where we are (§10). When, how often and what follows from the answer is decided in Python.
#pragma once

#include "command.hpp"
#include "deadline.hpp"
#include "dialog.hpp"
#include "transaction.hpp"

namespace sidecar {

// Ends exactly once, with one event: the final response, or that none came in time, or that it could not be sent. A
// challenge is answered with the gateway's credentials, within the same time. Owned by the bridge from `prepare` to its end.
class GatewayRequest final : public TsxUser {
public:
    GatewayRequest(Context& context, std::uint64_t id) : context_(context), id_(id) {}
    GatewayRequest(const GatewayRequest&) = delete;
    GatewayRequest& operator=(const GatewayRequest&) = delete;

    bool prepare(const commands::AskGateway& asked);  // false: there is no such request
    void send();  // once it is in the table of the bridge
    void not_sent();

    const Dialog& dialog() const { return dialog_; }
    void on_tsx(pjsip_transaction* tsx, pjsip_event& event) override;

private:
    bool send(TxPtr request);
    void end(RouteFailure cause, int code, const pjsip_msg* answer);
    std::optional<int> granted_s(const pjsip_msg* answer) const;
    static void too_late(void* self);

    Context& context_;
    const std::uint64_t id_;
    Dialog dialog_{context_};  // no dialog comes about: it keeps the names and the destination
    Tsx tsx_{context_};
    Deadline deadline_{context_, this, &too_late};
    bool entered_ = false;  // in the table of the bridge
    int timeout_ms_ = 0;
    std::optional<int> expires_s_;  // of a REGISTER; none: an OPTIONS
    int tries_ = 0;       // answers to challenges
    Moment sent_at_{};
};

}  // namespace sidecar

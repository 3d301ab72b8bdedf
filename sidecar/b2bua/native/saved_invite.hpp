// A's INVITE once more, from what every response to it repeats: pjsip answers it as it would have answered the first, absorbs
// its repeats and finds it for a CANCEL. It has no body, and leads nowhere.
#pragma once

#include "command.hpp"
#include "context.hpp"
#include "message.hpp"

#include <pjsip.h>

#include <memory>

namespace sidecar {

class SavedInvite {
public:
    SavedInvite(Context& context, const commands::Adopt& saved);
    ~SavedInvite();
    SavedInvite(const SavedInvite&) = delete;
    SavedInvite& operator=(const SavedInvite&) = delete;

    // Null where what was saved cannot be read, or its peer not be reached.
    pjsip_rx_data* get() const { return readable_ ? message_.get() : nullptr; }
    const pjsip_fromto_hdr* from() const { return readable_ ? message_->msg_info.from : nullptr; }

private:
    bool take_source(const SavedLeg& leg);
    bool take_transport(Context& context, const SavedLeg& leg);

    PoolPtr pool_;
    std::unique_ptr<pjsip_rx_data> message_ = std::make_unique<pjsip_rx_data>();
    pjsip_transport* acquired_ = nullptr;  // a reference is held
    bool readable_ = false;
};

}  // namespace sidecar

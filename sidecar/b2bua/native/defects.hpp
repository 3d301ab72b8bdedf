// What is wrong with a message that pjsip gave up on and that is heard all the same: see SecondReading.
#pragma once

#include "context.hpp"

#include <bitset>
#include <cstddef>

namespace sidecar {

enum class Part : std::size_t {
    request_uri,
    from,
    to,
    call_id,
    cseq,
    max_forwards,
    contact,
    record_route,
    content_type,  // of a body that is there
    content_length,
    line,  // of the head, that is no header field
    count_
};

// The parts of a message that nobody can read, or that are not there. A message may be heard without them; who needs one
// asks. What nobody here needs is not among them: it passes as it came.
class Defects {
public:
    void add(Part part) { parts_.set(static_cast<std::size_t>(part)); }
    bool has(Part part) const { return parts_.test(static_cast<std::size_t>(part)); }
    // RFC 3261 §8.2.2, §16.3: whether the request cannot do without one of them. BYE, CANCEL and ACK can: they end
    // something, and their sender takes it for ended whatever we answer.
    bool concern(const pjsip_rx_data* request) const;

private:
    std::bitset<static_cast<std::size_t>(Part::count_)> parts_;
};

inline bool ends_something(const pjsip_method& method) {
    return method.id == PJSIP_BYE_METHOD || method.id == PJSIP_CANCEL_METHOD || method.id == PJSIP_ACK_METHOD;
}

inline bool Defects::concern(const pjsip_rx_data* request) const {
    const pjsip_method& method = request->msg_info.msg->line.req.method;
    if (ends_something(method)) return false;
    auto needed = parts_;
    const auto without = [&](Part part) { needed.reset(static_cast<std::size_t>(part)); };
    const bool outside = request->msg_info.to->tag.slen == 0;
    const pj_str_t update{const_cast<char*>("UPDATE"), 6};
    if (!outside) without(Part::record_route);
    if (method.id != PJSIP_INVITE_METHOD && pj_strcmp(&method.name, &update) != 0) without(Part::contact);
    return needed.any();
}

// Null: pjsip read all of it.
inline const Defects* defects_of(const Context& context, const pjsip_rx_data* message) {
    return static_cast<const Defects*>(message->endpt_info.mod_data[context.user->id]);
}

inline bool lacks(const Context& context, const pjsip_rx_data* message, Part part) {
    const Defects* defects = defects_of(context, message);
    return defects != nullptr && defects->has(part);
}

}  // namespace sidecar

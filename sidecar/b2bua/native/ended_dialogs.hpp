// The last dialogs to end: a BYE that crossed ours gets 200, not 481; a 2xx that comes too late gets ACK and BYE, also one to an
// INVITE that an earlier boot has sent and given up.
#pragma once

#include "command.hpp"
#include "context.hpp"
#include "dialog.hpp"
#include "leg.hpp"
#include "remote_party.hpp"

#include <pjsip.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace sidecar {

// None is the beginning of another.
std::string dialog_name(std::string_view local_tag, std::string_view remote_tag, std::string_view call_id);

// Policy when full: the one that ended first is forgotten.
class EndedDialogs {
public:
    explicit EndedDialogs(Context& context) : context_(context) {}

    void add(const Dialog& early);
    void add(const Leg& leg);
    void add(const commands::Adopt& saved, const commands::GivenUp& one);
    bool holds(std::string_view name) { return find(name) != nullptr; }
    // A response that no leg waits for. True: it was such a 2xx, and has been dealt with.
    bool took_answer(const pjsip_rx_data* rdata);

private:
    struct Ended {
        std::string name;
        std::uint64_t bridge_id = 0;
        int attempt = 0;  // 0: leg A
        int invite_cseq = 0;
        int challenges = 0;  // that its INVITE may have answered since, each with the next number
        int overtaken_cseq = 0;  // see Leg
        bool answered = false;
        int branches = 0;  // that answered too late
        RemoteParty party{};
    };
    static constexpr std::size_t dialogs_max = 4096;

    void keep(Ended&& ended);
    Ended* find(std::string_view name_or_its_beginning);

    Context& context_;
    std::deque<Ended> ended_;
};

}  // namespace sidecar

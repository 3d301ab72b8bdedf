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
#include <unordered_map>

namespace sidecar {

std::string dialog_name(std::string_view local_tag, std::string_view remote_tag, std::string_view call_id);

// Policy when full: the one that ended first is forgotten.
class EndedDialogs {
public:
    explicit EndedDialogs(Context& context) : context_(context) {}

    void add(const Dialog& early);
    void add(const Leg& leg);
    void add(const commands::Adopt& saved, const commands::GivenUp& one);
    bool holds(std::string_view name) const { return find(by_name_, name) != nullptr; }
    // Whom the ended dialog that a request names was with; null: none is known.
    const RemoteParty* party_of(const pjsip_rx_data* request) const;
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

        std::string_view tag() const;  // ours
    };
    using Index = std::unordered_map<std::string_view, Ended*>;  // the last of those with that key
    static constexpr std::size_t dialogs_max = 4096;

    void keep(Ended&& ended);
    static void note(Index& index, std::string_view key, Ended* ended);
    static void forget(Index& index, std::string_view key, const Ended* ended);
    static Ended* find(const Index& index, std::string_view key);

    Context& context_;
    std::deque<Ended> ended_;
    Index by_name_, by_tag_;
};

}  // namespace sidecar

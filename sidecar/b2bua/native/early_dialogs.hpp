// The dialogs that one INVITE of ours makes before it is answered: one for each To tag of the callee's side (RFC 3261
// §12.1.2), where a proxy there forks it or sends it on. To the caller we stand for all of those user agents, so each has
// a To tag of ours, too (§8.2.6.2): what is early in one is nothing in another.
#pragma once

#include "dialog.hpp"

#include <pjsip.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sidecar {

class Leg;

// One that is not of the legs themselves: on leg B, and as the caller has it. While it is open the bridge finds the caller's
// leg by its tag.
class EarlyDialog {
public:
    EarlyDialog(Context& context, Leg& caller, const Dialog& on_a, int invite_cseq, const Dialog& on_b,
                const pjsip_rx_data* response);
    ~EarlyDialog() { close(); }
    EarlyDialog(const EarlyDialog&) = delete;
    EarlyDialog& operator=(const EarlyDialog&) = delete;

    Dialog a;
    Dialog b;
    int code;  // of the response that made it

    Dialog& of(Side side) { return side == Side::a ? a : b; }
    bool open() const { return open_; }
    // RFC 3262 §3: a reliable response is repeated until somebody acknowledges it, and without that there is no 2xx. A caller that
    // does so in one dialog alone leaves it to us: once it has let three repeats of this one pass.
    bool wants_our_prack(std::string_view rseq);
    void close();  // no request in it is heard any more
    Branch described() const { return {b.identity(), a.identity(), code}; }

private:
    Context& context_;
    bool open_ = true;
    std::string rseq_;  // of the last reliable response
    int heard_ = 0;     // so often
    int cseq_ = 0;      // on leg B before it
};

// Those of one attempt. They live as long as its leg: a request in one may be on its way when another is answered.
class EarlyDialogs {
public:
    static constexpr std::size_t early_dialogs_max = 8;

    EarlyDialog& add(std::unique_ptr<EarlyDialog> made);
    EarlyDialog* of_tag(std::string_view tag_of_b) const;
    EarlyDialog* open_one(Side side, std::string_view local_tag, std::string_view remote_tag) const;
    bool full() const { return all_.size() >= early_dialogs_max; }
    std::size_t open_count() const;
    void close();
    void let_go_of(const pjsip_transport* transport);
    const std::vector<std::unique_ptr<EarlyDialog>>& all() const { return all_; }

private:
    std::vector<std::unique_ptr<EarlyDialog>> all_;
};

}  // namespace sidecar

#include "early_dialogs.hpp"

#include <algorithm>

namespace sidecar {

EarlyDialog::EarlyDialog(Context& context, Leg& caller, const Dialog& on_a, int invite_cseq, const Dialog& on_b,
                         const pjsip_rx_data* response)
    : a(context), b(context), code(response->msg_info.msg->line.status.code), context_(context) {
    a.start_as_branch(on_a, invite_cseq);
    b.start_fork(on_b, response);
    context_.tables.enter(caller, a);
}

bool EarlyDialog::wants_our_prack(std::string_view rseq) {
    constexpr int our_turn = 4;
    if (rseq != rseq_) {
        rseq_ = rseq;
        heard_ = 0;
        cseq_ = b.local_cseq();
    }
    return ++heard_ == our_turn && b.local_cseq() == cseq_;
}

void EarlyDialog::close() {
    if (!open_) return;
    open_ = false;
    context_.tables.leave(a);
}

EarlyDialog& EarlyDialogs::add(std::unique_ptr<EarlyDialog> made) {
    all_.push_back(std::move(made));
    return *all_.back();
}

EarlyDialog* EarlyDialogs::of_tag(std::string_view tag_of_b) const {
    const auto found = std::find_if(all_.begin(), all_.end(), [&](const auto& one) { return one->b.remote_tag() == tag_of_b; });
    return found == all_.end() ? nullptr : found->get();
}

EarlyDialog* EarlyDialogs::open_one(Side side, std::string_view local_tag, std::string_view remote_tag) const {
    for (const auto& one : all_) {
        const Dialog& dialog = one->of(side);
        if (one->open() && dialog.local_tag() == local_tag && dialog.remote_tag() == remote_tag) return one.get();
    }
    return nullptr;
}

std::size_t EarlyDialogs::open_count() const {
    return static_cast<std::size_t>(std::count_if(all_.begin(), all_.end(), [](const auto& one) { return one->open(); }));
}

void EarlyDialogs::close() {
    for (auto& one : all_) one->close();
}

void EarlyDialogs::let_go_of(const pjsip_transport* transport) {
    for (auto& one : all_) {
        one->a.let_go_of(transport);
        one->b.let_go_of(transport);
    }
}

}  // namespace sidecar

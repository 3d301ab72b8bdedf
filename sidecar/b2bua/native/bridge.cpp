#include "bridge.hpp"

#include "body.hpp"
#include "defects.hpp"
#include "sent_by.hpp"
#include "validity.hpp"

#include <malloc.h>
#include <pthread.h>
#include <pjsua-lib/pjsua.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <stdexcept>

namespace sidecar {

constexpr long long tick_ms = 1000;
constexpr long long awake_ms = 100;
constexpr std::size_t pools_of_a_burst = 10'000;
[[maybe_unused]] constexpr std::size_t pool_cache_bytes = 32 << 20;

// --- the edge to pjsip -----------------------------------------------------------------------------------------------

namespace {

// pjsip gives its modules' and its transports' callbacks nothing of ours. One per process, because pjsip's layers are too;
// set while the modules are registered.
Bridge* running = nullptr;

pj_bool_t gate_on_request(pjsip_rx_data* rdata) {
    if (running == nullptr) return PJ_FALSE;
    bool dropped = true;
    running->read_from_pjsip(rdata->tp_info.transport, [&] { dropped = running->gate_request(rdata); });
    return dropped ? PJ_TRUE : PJ_FALSE;
}

pj_bool_t gate_on_response(pjsip_rx_data* rdata) {
    if (running == nullptr) return PJ_FALSE;
    bool dropped = true;
    running->read_from_pjsip(rdata->tp_info.transport, [&] { dropped = running->gate_response(rdata); });
    return dropped ? PJ_TRUE : PJ_FALSE;
}

pj_bool_t bridge_on_request(pjsip_rx_data* rdata) {
    if (running == nullptr) return PJ_FALSE;
    running->enter_from_pjsip([&] { running->on_request(rdata); }, true);
    return PJ_TRUE;  // pjsua's own layers never get a request
}

pj_status_t gate_on_sending(pjsip_tx_data* tdata) {
    if (running != nullptr) running->on_sending(tdata);
    return PJ_SUCCESS;
}

pj_status_t capture_on_sent(pjsip_tx_data* tdata) {
    if (running != nullptr) running->enter_from_pjsip([&] { running->on_sent(tdata); });
    return PJ_SUCCESS;
}

pj_bool_t bridge_on_response(pjsip_rx_data* rdata) {
    if (running == nullptr || pjsip_rdata_get_tsx(rdata) != nullptr) return PJ_FALSE;  // on_tsx_state tells of those
    running->enter_from_pjsip([&] { running->on_response(rdata); }, true);
    return PJ_TRUE;  // nor a response that no transaction of ours waits for
}

void on_tsx_state(pjsip_transaction* tsx, pjsip_event* event) {
    if (running == nullptr || event->type != PJSIP_EVENT_TSX_STATE) return;
    auto* user = TsxUser::of(tsx);
    if (user == nullptr) return;
    const bool with_message = event->body.tsx_state.type == PJSIP_EVENT_RX_MSG;
    running->enter_from_pjsip([&] { user->on_tsx(tsx, *event); }, with_message);
}

void on_dropped_data(pjsip_tp_dropped_data* data) {
    if (running != nullptr) running->read_from_pjsip(data->tp, [&] { running->on_dropped(*data); });
}

pj_status_t on_received_data(pjsip_tp_rx_data* data) {
    if (running != nullptr && !running->hears(data->tp)) data->len = 0;
    return PJ_SUCCESS;
}

void on_transport_state(pjsip_transport* transport, pjsip_transport_state state, const pjsip_transport_state_info* info) {
    if (running != nullptr) running->on_transport_state(transport, state, info);
}

pjsip_module make_module(const char* name, int priority) {
    pjsip_module module{};
    module.name = borrow(name);
    module.id = -1;
    module.priority = priority;
    return module;
}

pjsip_module make_gate_module() {
    auto module = make_module("mod-sidecar-gate", PJSIP_MOD_PRIORITY_TSX_LAYER - 2);
    module.on_rx_request = &gate_on_request;
    module.on_rx_response = &gate_on_response;
    module.on_tx_request = module.on_tx_response = &gate_on_sending;  // before pjsip prints
    return module;
}

pjsip_module make_bridge_module() {
    auto module = make_module("mod-sidecar-bridge", PJSIP_MOD_PRIORITY_TSX_LAYER + 2);
    module.on_rx_request = &bridge_on_request;
    module.on_rx_response = &bridge_on_response;
    module.on_tsx_state = &on_tsx_state;
    return module;
}

pjsip_module make_capture_module() {
    auto module = make_module("mod-sidecar-capture", PJSIP_MOD_PRIORITY_TRANSPORT_LAYER - 1);
    module.on_tx_request = module.on_tx_response = &capture_on_sent;
    return module;
}

}  // namespace

// pjsip's "td" is all of 64*T1: Timers B, F, H and J too.
static void set_timers(const Settings& settings) {
    pjsip_tsx_set_timers(settings.t1_ms, 8 * settings.t1_ms, settings.t4_ms(), settings.timeout_ms());
}

// --- life ------------------------------------------------------------------------------------------------------------

Bridge::Bridge(Settings settings)
    : gate_module_(make_gate_module()),
      bridge_module_(make_bridge_module()),
      capture_module_(make_capture_module()),
      context_{std::move(settings), *this, pjsua_get_pjsip_endpt(), &bridge_module_, &gate_module_} {}

Bridge::~Bridge() = default;

void Bridge::start() {
    if (running != nullptr) throw std::runtime_error("a bridge runs in this process already");
    if (context_.endpoint == nullptr) throw std::runtime_error("pjsua has no endpoint");
#if !PJ_POOL_DEBUG  // the sanitizer build has no such pool
    // pjsua's factory gives every pool back to malloc at once. A call takes some twenty: keep what one burst needs.
    reinterpret_cast<pj_caching_pool*>(pjsua_get_pool_factory())->max_capacity = pool_cache_bytes;
#endif
    context_.memory.guard(pjsua_get_pool_factory());
    set_timers(context_.settings);
    context_.capture.set(context_.settings.collector);
    pjsip_endpoint* endpoint = context_.endpoint;
    commands_ = std::make_unique<CommandQueue>(endpoint, [this](auto& batch) {
        enter_from_pjsip([&] {
            if (!context_.stall.reading()) return run(batch);
            for (Command& command : batch) postponed_.push_back(std::move(command));
        });
    });
    running = this;
    if (pjsip_endpt_register_module(endpoint, &bridge_module_) != PJ_SUCCESS ||
        pjsip_endpt_register_module(endpoint, &gate_module_) != PJ_SUCCESS ||
        pjsip_endpt_register_module(endpoint, &capture_module_) != PJ_SUCCESS) {
        running = nullptr;
        commands_->close();
        context_.memory.release();
        throw std::runtime_error("pjsip refused the modules");
    }
    pjsip_tpmgr* transports = pjsip_endpt_get_tpmgr(endpoint);
    pjsip_tpmgr_set_drop_data_cb(transports, &on_dropped_data);
    pjsip_tpmgr_set_recv_data_cb(transports, &on_received_data);
    pjsuas_on_state_ = pjsip_tpmgr_get_state_cb(transports);
    pjsip_tpmgr_set_state_cb(transports, &sidecar::on_transport_state);
    tick_.arm(tick_ms);
    wakefulness_.arm(awake_ms);
    registered_ = true;
}

void Bridge::stop() {
    if (!registered_) return;
    std::vector<Command> batch;
    batch.emplace_back(commands::Stop{});
    post(std::move(batch));
    registered_ = false;
    std::unique_lock lock(stop_mutex_);
    stop_condition_.wait(lock, [this] { return stopped_; });
}

// The names first: the others may ask for them.
void Bridge::on_transport_state(pjsip_transport* transport, pjsip_transport_state state,
                                const pjsip_transport_state_info* info) {
    context_.tls_names.on_state(transport, state, info);
    if (state == PJSIP_TP_STATE_CONNECTED && !certificates_.is_right(transport)) {
        context_.counters.add(Counter::refused_certificates);
        pjsip_transport_shutdown(transport);  // before anything has been sent or heard on it
    }
    // Where it has opened a listener since, it stands ahead of us, and calls us.
    const bool first = pjsip_tpmgr_get_state_cb(pjsip_endpt_get_tpmgr(context_.endpoint)) == &sidecar::on_transport_state;
    if (first && pjsuas_on_state_ != nullptr) pjsuas_on_state_(transport, state, info);
    connections_.on_state(transport, state);
}

void Bridge::on_sending(pjsip_tx_data* tdata) {
    if (tdata->msg->type == PJSIP_RESPONSE_MSG) sent_by::take_out_of_branch(tdata);
    fit_buffer(tdata, printed_);
}

void Bridge::awake(void* self) {
    auto* of = static_cast<Bridge*>(self);
    of->context_.counters.add(Counter::wakes);
    of->context_.arrival.awake();
    of->context_.memory.look(of->calls_.size());
    of->wakefulness_.arm(awake_ms);
}

void Bridge::ticked(void* self) {  // and sweep() does the rest
    auto* of = static_cast<Bridge*>(self);
    of->tick_.arm(tick_ms);
    of->broken_streams_.tick();
    of->context_.drops_told = of->context_.strays_told = 0;
    of->context_.capture.tick();
    of->connections_.close_overdue();
    of->give_memory_back();
}

// What bounds the memory: calls_max calls with some twenty pools each, their transactions until 64*T1 after them, and
// pool_cache_bytes of pools that are kept for the next call. glibc gives pages back from the top of its heap alone, and what
// is left of a burst lies there; so it is told to look through all of it, once for each fall to a quarter. That holds this
// thread for some milliseconds, when little happens.
void Bridge::give_memory_back() noexcept {
    const std::size_t held = pools();
    most_pools_ = std::max(most_pools_, held);
    if (most_pools_ < pools_of_a_burst || held > most_pools_ / 4) return;
    most_pools_ = held;
    malloc_trim(0);
    context_.counters.add(Counter::memory_given_back);
}

void Bridge::count_holdings() noexcept {
    transactions_.store(pjsip_tsx_layer_get_tsx_count(), std::memory_order_relaxed);
#if !PJ_POOL_DEBUG
    const auto* pools = reinterpret_cast<const pj_caching_pool*>(pjsua_get_pool_factory());
    pools_.store(pools->used_count, std::memory_order_relaxed);
#endif
}

void Bridge::stop_here() {
    tick_.disarm();
    wakefulness_.disarm();
    pjsip_tpmgr* transports = pjsip_endpt_get_tpmgr(context_.endpoint);
    pjsip_tpmgr_set_drop_data_cb(transports, nullptr);
    pjsip_tpmgr_set_recv_data_cb(transports, nullptr);
    pjsip_tpmgr_set_state_cb(transports, pjsuas_on_state_);
    broken_streams_.clear();
    pjsip_endpt_unregister_module(context_.endpoint, &gate_module_);
    pjsip_endpt_unregister_module(context_.endpoint, &capture_module_);
    calls_.clear();
    abandoned_.clear();
    legs_.clear();
    gateway_requests_.clear();
    sweep();
    running = nullptr;
    pjsip_endpt_unregister_module(context_.endpoint, &bridge_module_);  // now that no transaction is to be let go of
    commands_->close();
    context_.memory.release();  // before its pools are gone
    const std::lock_guard lock(stop_mutex_);
    stopped_ = true;
    stop_condition_.notify_all();
}

void Bridge::post(std::vector<Command>&& commands) {
    if (registered_) commands_->post(std::move(commands));
}

void Bridge::run(std::vector<Command>& commands) {
    const auto for_call = [this](const auto& command) {
        const auto found = calls_.find(command.bridge_id);
        if (found == calls_.end()) return context_.counters.add(Counter::commands_unmatched);
        found->second->on(command);
    };
    for (const Command& command : commands) {
        if (std::holds_alternative<commands::Stop>(command)) return stop_here();
        enter_from_pjsip([&] {  // one command's fault is not the next one's
            std::visit(Overloaded{
                           [&](const commands::Snapshot&) { snapshot(); },
                           [&](const commands::SetAccepting& to) { not_accepting_ = to.detail; },
                           [&](const commands::AskGateway& asked) { ask_gateway(asked); },
                           [&](const commands::Adopt& saved) { adopt(saved); },
                           [&](const commands::Keep&) {
                               for (auto& [id, call] : calls_) call->on(inputs::Keep{});
                           },
                           [&](const commands::Capture& of) { context_.capture.decide(of.bridge_id, of.correlation_id); },
                           [&](const commands::Hear&) {
                               pthread_setname_np(pthread_self(), "sip");
                               hears_ = true;
                           },
                           [&](const commands::RenewTls& to) { renew_tls(to); },
                           [&](const commands::Reconfigure& to) { reconfigure(to); },
                           [&](const commands::SetServers& now) { context_.servers.set(now.gateway, now.host_name, now.addresses); },
                           [](const commands::Stop&) {},
                           for_call,
                       },
                       command);
        });
    }
}

void Bridge::adopt(const commands::Adopt& saved) {
    auto call = std::make_unique<Call>(context_, saved.bridge_id);
    if (!call->adopt(saved)) {
        context_.capture.leave(saved.bridge_id, 0);
        return context_.counters.add(Counter::commands_unmatched);
    }
    calls_.emplace(saved.bridge_id, std::move(call));
    live_calls_.store(calls_.size(), std::memory_order_relaxed);
    context_.counters.add(Counter::calls_adopted);
    for (const auto& one : saved.given_up) {
        ended_.add(saved, one);
        context_.capture.join(saved.bridge_id, leg_b_names(saved.b_token, one.attempt).call_id, false);
    }
}

void Bridge::snapshot() {
    SnapshotTaken taken;
    for (const auto& [id, call] : calls_) taken.bridge_ids.ids.push_back(id);
    for (const auto& [leg, owned] : abandoned_) taken.given_up_ids.ids.push_back(leg->bridge_id());
    context_.events.push(0, Moment::now(), taken);
}

void Bridge::renew_tls(const commands::RenewTls& to) {
    const auto& tls = context_.settings.tls;
    if (tls) context_.counters.add(tls->renew(to.credentials) ? Counter::tls_renewals : Counter::exceptions);
}

// Between two messages, so that each is dealt with by the old ones or by the new ones alone. What began earlier has kept what it
// goes on with: a dialog its peers, a leg what its gateway's challenges are answered with.
void Bridge::reconfigure(const commands::Reconfigure& to) {
    auto& settings = context_.settings;
    if (to.credentials && settings.tls && !settings.tls->renew(to.credentials)) context_.counters.add(Counter::exceptions);
    peers_have_changed_ = true;
    settings = std::move(*to.settings);
    set_timers(settings);
    context_.capture.set(settings.collector);
    admission_gate_.set_wait_max(settings.admission_wait_ms_max * 1'000'000LL);
    context_.events.set_max(settings.events_max);
    context_.tls_names.reconsider();
    connections_.reconsider();
    context_.counters.add(Counter::reconfigurations);
}

void Bridge::ask_gateway(const commands::AskGateway& asked) {
    auto made = std::make_unique<GatewayRequest>(context_, asked.request_id);
    if (gateway_requests_.size() >= gateway_requests_max || !made->prepare(asked)) return made->not_sent();
    GatewayRequest& request = *made;
    gateway_requests_.emplace(request.dialog().local_tag(), std::move(made));
    request.send();
}

void Bridge::forget(GatewayRequest& ended) {
    const auto found = gateway_requests_.find(ended.dialog().local_tag());
    if (found == gateway_requests_.end()) return;
    retired_requests_.push_back(std::move(found->second));
    gateway_requests_.erase(found);
}

// --- tables ----------------------------------------------------------------------------------------------------------

void Bridge::enter(Leg& leg) {
    enter(leg, leg.dialog);
    context_.capture.join(leg.bridge_id(), leg.dialog.call_id(), leg.side() == Side::a);
}

void Bridge::enter(Leg& leg, const Dialog& dialog) { legs_.emplace(dialog.local_tag(), &leg); }

void Bridge::leave(const Dialog& early) {
    legs_.erase(early.local_tag());
    ended_.add(early);
}

void Bridge::leave(Leg& leg) {
    legs_.erase(leg.dialog.local_tag());
    ended_.add(leg);
}

void Bridge::awaits(const Call& call) {
    waiting_.push_back({call.id(), call.awaits(), Moment::now().mono_ns, call.caller_group()});
}

void Bridge::retire(Call& call) {
    const auto found = calls_.find(call.id());
    if (found == calls_.end()) return;
    context_.capture.leave(call.id(), context_.settings.timeout_ms());
    retired_calls_.push_back(std::move(found->second));
    calls_.erase(found);
    live_calls_.store(calls_.size(), std::memory_order_relaxed);
    context_.counters.add(Counter::calls_ended);
}

void Bridge::abandon(std::unique_ptr<CalleeLeg> abandoned) {
    CalleeLeg* key = abandoned.get();
    abandoned_.emplace(key, std::move(abandoned));
    abandoned_legs_.store(abandoned_.size(), std::memory_order_relaxed);
}

void Bridge::forget(CalleeLeg& leg) {
    const auto found = abandoned_.find(&leg);
    if (found == abandoned_.end()) return;
    retired_legs_.push_back(std::move(found->second));
    abandoned_.erase(found);
    abandoned_legs_.store(abandoned_.size(), std::memory_order_relaxed);
}

void Bridge::retire(std::unique_ptr<Relay> relay) { retired_relays_.push_back(std::move(relay)); }

void Bridge::sweep() noexcept {
    retired_relays_.clear();
    retired_calls_.clear();
    retired_legs_.clear();
    retired_requests_.clear();
    count_holdings();
    if (postponed_.empty()) return;
    auto batch = std::move(postponed_);
    postponed_.clear();
    run(batch);
}

Leg* Bridge::find(std::string_view local_tag) const {
    const auto found = legs_.find(local_tag);
    return found == legs_.end() ? nullptr : found->second;
}

Leg* Bridge::find_dialog(std::string_view call_id, std::string_view local_tag, std::string_view remote_tag) const {
    Leg* leg = find(local_tag);
    if (leg == nullptr || call_id != leg->dialog.call_id() || remote_tag != leg->dialog.remote_tag()) return nullptr;
    return leg;
}

const Dialog* Bridge::asker(std::string_view local_tag, std::string_view remote_tag) const {
    if (Leg* leg = find(local_tag)) return &leg->dialog_meant(local_tag, remote_tag);
    const auto found = gateway_requests_.find(local_tag);
    return found == gateway_requests_.end() ? nullptr : &found->second->dialog();
}

// Its sender, by the settings that hold for it: for all who ask, and for pjsip's keys.
void Bridge::recognise(pjsip_rx_data* request, const PeerGroup& sender) const {
    context_.note_sender(request, sender);
    sent_by::put_into_branch(request, sender.id());
}

// An INVITE comes again, or is cancelled, or what has ended is ended once more, and meanwhile its sender has become somebody else:
// it is heard as who it was. Null: nothing of the kind.
const PeerGroup* Bridge::begun_before(pjsip_rx_data* request) const {
    if (!peers_have_changed_) return nullptr;
    if (request->msg_info.to->tag.slen != 0) {
        const RemoteParty* party = ended_.party_of(request);
        return party != nullptr && party->speaks_in(context_, request) ? &party->sender(context_, request) : nullptr;
    }
    const auto method = request->msg_info.msg->line.req.method.id;
    if (method != PJSIP_INVITE_METHOD && method != PJSIP_CANCEL_METHOD) return nullptr;
    if (request->msg_info.from->tag.slen == 0) return nullptr;
    pjsip_method& named = request->msg_info.cseq->method;
    const pjsip_method as_received = named;
    named = pjsip_invite_method;
    const pjsip_transaction* invite = pjsip_tsx_detect_merged_requests(request);  // by From tag, Call-ID and CSeq
    named = as_received;
    const TsxUser* user = invite == nullptr ? nullptr : TsxUser::of(invite);
    const RemoteParty* caller = user == nullptr ? nullptr : user->asked_by();
    return caller != nullptr && caller->speaks_in(context_, request) ? &caller->sender(context_, request) : nullptr;
}

static Address source_of(const pjsip_rx_data* message) { return as_source(address_of(&message->pkt_info.src_addr)); }

// --- requests --------------------------------------------------------------------------------------------------------

static bool ends_something(const pjsip_rx_data* request) {
    const auto method = request->msg_info.msg->line.req.method.id;
    return method == PJSIP_BYE_METHOD || method == PJSIP_CANCEL_METHOD || method == PJSIP_ACK_METHOD;
}

bool Bridge::gate_request(pjsip_rx_data* rdata) {
    if (!hears_) return true;
    if (context_.memory.reserve_is_spent() && !ends_something(rdata)) {
        context_.counters.add(Counter::dropped_for_memory);
        return true;
    }
    pjsip_via_hdr* via = rdata->msg_info.via;
    via->maddr_param.slen = 0;  // RFC 3261 §18.2.2 would have us answer to an address of the sender's choice
    validity::take_first(rdata);
    validity::read_bare_tags(rdata);
    keep_as_received(context_, rdata);
    const auto method = rdata->msg_info.msg->line.req.method.id;
    const auto to_tag = view(rdata->msg_info.to->tag);
    if (!to_tag.empty()) {
        if (Leg* leg = find(to_tag)) {
            const Dialog& dialog = leg->dialog_meant(to_tag, view(rdata->msg_info.from->tag));
            recognise(rdata, dialog.party().sender(context_, rdata));
            complete(rdata, dialog);
            context_.capture.received(rdata, context_.arrived);
            // RFC 3261 §12.1.2: a callee that knows no tags has the tag null, in requests of its own too.
            auto& from_tag = rdata->msg_info.from->tag;
            if (from_tag.slen == 0) from_tag = borrow("");  // pjsip copies it, of whatever length
            if (dialog.hears(rdata) && (from_tag.slen != 0 || dialog.remote_tag().empty())) {
                connections_.heard(rdata->tp_info.transport);
                return refused_for_defects(rdata);
            }
            drop_foreign(context_, rdata);
            return true;
        }
    }
    captured_ = context_.capture.received(rdata, context_.arrived);
    const PeerGroup* before = begun_before(rdata);
    const PeerGroup& sender = before != nullptr ? *before : context_.sender_of(rdata);
    recognise(rdata, sender);
    const bool listed = sender.is_listed();
    if (before == nullptr && is_over_rate(rdata, sender.requests_per_s)) {
        context_.counters.add(Counter::dropped_over_rate);
        return true;
    }
    const bool matched_by_branch = method == PJSIP_CANCEL_METHOD && lacks(context_, rdata, Part::from) &&
                                   view(via->branch_param).starts_with(PJSIP_RFC3261_BRANCH_ID);
    if (listed && rdata->msg_info.from->tag.slen == 0 && !matched_by_branch) {
        // RFC 2543 allowed it. pjsip makes keys of it that point to nothing, so it must not reach the transaction layer.
        context_.counters.add(Counter::refused_malformed);
        if (method != PJSIP_ACK_METHOD) respond_stateless(context_, rdata, PJSIP_SC_BAD_REQUEST);
        return true;
    }
    if (listed) return refused_for_defects(rdata);
    if (context_.settings.refuse_unlisted && method == PJSIP_INVITE_METHOD && to_tag.empty() &&
        strangers_limit_.allows(source_of(rdata), context_.settings.unlisted_refused_per_s, Moment::now().mono_ns)) {
        context_.counters.add(Counter::refused_unlisted);
        refuse_with_record(rdata, PJSIP_SC_FORBIDDEN, "source_not_allowed");
    } else {
        context_.counters.add(Counter::dropped_unlisted);
    }
    return true;
}

// Our own tag names one dialog of ours: what else of its name cannot be read is that dialog's.
void Bridge::complete(pjsip_rx_data* rdata, const Dialog& dialog) const {
    auto& info = rdata->msg_info;
    pj_pool_t* pool = rdata->tp_info.pool;
    if (lacks(context_, rdata, Part::from) && info.from->tag.slen == 0) info.from->tag = copy(pool, dialog.remote_tag());
    if (lacks(context_, rdata, Part::call_id) && info.cid->id.slen == 0) info.cid->id = copy(pool, dialog.call_id());
}

bool Bridge::refused_for_defects(pjsip_rx_data* rdata) {
    const Defects* defects = defects_of(context_, rdata);
    if (defects == nullptr || !defects->concern(rdata)) return false;
    context_.counters.add(Counter::refused_malformed);
    respond_stateless(context_, rdata, PJSIP_SC_BAD_REQUEST);
    return true;
}

// A number exactly as it was dialled, its parameters aside: 1123 is no call to 112.
bool Bridge::is_emergency_call(const pjsip_rx_data* invite) const {
    const auto uri = request_uri_of(invite);
    if (is_emergency(uri)) return true;
    const auto& numbers = context_.settings.emergency_users;
    if (numbers.empty()) return false;
    const std::string user = user_in(uri);
    return std::find(numbers.begin(), numbers.end(), user.substr(0, user.find(';'))) != numbers.end();
}

// What belongs to a call of ours has passed before; ACK and CANCEL end what would else go on.
bool Bridge::is_over_rate(const pjsip_rx_data* rdata, int per_s) {
    const auto method = rdata->msg_info.msg->line.req.method.id;
    if (per_s == 0 || method == PJSIP_ACK_METHOD || method == PJSIP_CANCEL_METHOD) return false;
    if (method == PJSIP_INVITE_METHOD && is_emergency_call(rdata)) return false;
    return !peers_limit_.allows(source_of(rdata), per_s, Moment::now().mono_ns);
}

// Whoever may answer one request of ours may yet know the branch of another: that of a gateway tried before it tells it.
static bool is_to_its_own(const pjsip_rx_data* response) {
    const auto& info = response->msg_info;
    pj_str_t key;
    pjsip_tsx_create_key(response->tp_info.pool, &key, PJSIP_ROLE_UAC, &info.cseq->method, response);
    pjsip_transaction* asked = pjsip_tsx_layer_find_tsx2(&key, PJ_TRUE);  // with a reference
    if (asked == nullptr) return true;
    const pjsip_msg* request = asked->last_tx->msg;
    const bool own = view(PJSIP_MSG_FROM_HDR(request)->tag) == view(info.from->tag) &&
                     view(PJSIP_MSG_CID_HDR(request)->id) == view(info.cid->id);
    pj_grp_lock_dec_ref(asked->grp_lock);
    return own;
}

bool Bridge::gate_response(pjsip_rx_data* rdata) {
    if (!hears_) return true;
    validity::take_first(rdata);
    validity::read_bare_tags(rdata);
    keep_as_received(context_, rdata);
    context_.capture.received(rdata, context_.arrived);
    // We send none without. pjsip makes keys of such responses that point to nothing.
    const bool ours = rdata->msg_info.from->tag.slen != 0 &&
                      view(rdata->msg_info.via->branch_param).starts_with(PJSIP_RFC3261_BRANCH_ID);
    if (!ours) {
        context_.counters.add(Counter::unmatched_responses);
        return true;
    }
    if (!body_is_whole(rdata)) {  // RFC 3261 §18.3; its sender repeats it, or its transaction ends
        context_.counters.add(Counter::dropped_unparsable);
        tell_dropped(rdata, text_of(rdata), "body");
        return true;
    }
    context_.note_sender(rdata, context_.sender_of(rdata));
    // A transaction takes any response with its branch, wherever that was seen: a forged 2xx would be billed.
    const Dialog* dialog = asker(view(rdata->msg_info.from->tag), view(rdata->msg_info.to->tag));
    // Before pjsip sees it: a transaction that had another final response would take a late 2xx for that one again.
    if (dialog == nullptr) return ended_.took_answer(rdata);
    context_.note_sender(rdata, dialog->party().sender(context_, rdata));
    if (dialog->hears(rdata) && is_to_its_own(rdata)) return false;
    drop_foreign(context_, rdata);
    return true;
}

static bool refused_as_unsupported(Context& context, pjsip_rx_data* rdata, const char* name) {
    const pjsip_hdr* required = find_header(rdata->msg_info.msg, name);
    if (required == nullptr || rdata->msg_info.msg->line.req.method.id == PJSIP_ACK_METHOD) return false;
    context.counters.add(Counter::refused_extension);
    respond_unsupported(context, rdata, header_value(required, 256));
    return true;
}

void Bridge::on_request(pjsip_rx_data* rdata) {
    const pjsip_method& method = rdata->msg_info.msg->line.req.method;
    const bool outside = rdata->msg_info.to->tag.slen == 0 && method.id != PJSIP_CANCEL_METHOD;
    const bool ends_what_is_there = !outside && ends_something(method);  // it does, whatever else is wrong with it
    if (!ends_what_is_there && (validity::is_ambiguous(rdata) || (outside && validity::is_malformed(rdata)))) {
        context_.counters.add(Counter::refused_malformed);
        if (method.id != PJSIP_ACK_METHOD) respond_stateless(context_, rdata, PJSIP_SC_BAD_REQUEST);
        return;
    }
    if (method.id == PJSIP_CANCEL_METHOD) return on_cancel(rdata);
    if (!outside) return on_in_dialog(rdata);
    // RFC 3261 §16.3: no extension that a hop must know passes here. Require is for the other leg to judge, but where we
    // are the one who answers.
    if (refused_as_unsupported(context_, rdata, "Proxy-Require")) return;
    if (method.id == PJSIP_INVITE_METHOD) return on_initial_invite(rdata);
    on_other(rdata);
}

void Bridge::on_other(pjsip_rx_data* rdata) {
    const pjsip_method& method = rdata->msg_info.msg->line.req.method;
    if (method.id == PJSIP_ACK_METHOD) return context_.counters.add(Counter::acks_unmatched);
    if (method.id == PJSIP_OPTIONS_METHOD) {
        if (refused_as_unsupported(context_, rdata, "Require")) return;
        context_.counters.add(Counter::options_answered);
        const auto detail = refusing();
        if (detail.empty()) return respond_stateless(context_, rdata, PJSIP_SC_OK);
        // RFC 3261 §11.2: as if it were an INVITE. A proxy that probes us looks for another node meanwhile.
        return respond_stateless(context_, rdata, PJSIP_SC_SERVICE_UNAVAILABLE, context_.settings.retry_after_s,
                                 our_reason(context_, detail));
    }
    context_.counters.add(Counter::unmatched_requests);
    respond_stateless(context_, rdata, method.id == PJSIP_BYE_METHOD ? PJSIP_SC_CALL_TSX_DOES_NOT_EXIST
                                                                     : PJSIP_SC_METHOD_NOT_ALLOWED);
}

void Bridge::on_cancel(pjsip_rx_data* rdata) {
    pj_str_t key;
    pjsip_tsx_create_key(rdata->tp_info.pool, &key, PJSIP_ROLE_UAS, &pjsip_invite_method, rdata);
    pjsip_transaction* invite = pjsip_tsx_layer_find_tsx2(&key, PJ_TRUE);  // with a reference
    if (invite == nullptr) {
        context_.counters.add(Counter::unmatched_requests);
        return respond_stateless(context_, rdata, PJSIP_SC_CALL_TSX_DOES_NOT_EXIST);
    }
    auto* user = TsxUser::of(invite);
    if (user != nullptr) {
        user->on_cancel(rdata);
    } else {
        const auto* to = invite->last_tx != nullptr ? PJSIP_MSG_TO_HDR(invite->last_tx->msg) : nullptr;
        // RFC 3261 §9.2: too late to have an effect.
        answer_request(context_, rdata, PJSIP_SC_OK, to != nullptr ? view(to->tag) : std::string_view());
    }
    pj_grp_lock_dec_ref(invite->grp_lock);
}

bool Bridge::refused_as_malformed(pjsip_rx_data* rdata) {
    const auto& info = rdata->msg_info;
    const auto refuse = [&](Counter counter, int code) {
        context_.counters.add(counter);
        respond_stateless(context_, rdata, code);
        return true;
    };
    if (info.len >= PJSIP_MAX_PKT_LEN - 1) {  // not pkt_info.len: one read of a stream holds many messages
        return refuse(Counter::refused_too_large, PJSIP_SC_MESSAGE_TOO_LARGE);
    }
    if (has_broken_sdp(rdata)) return refuse(Counter::refused_malformed, PJSIP_SC_BAD_REQUEST);
    if (info.max_fwd != nullptr && info.max_fwd->ivalue <= 0) return refuse(Counter::refused_hops, PJSIP_SC_TOO_MANY_HOPS);
    if (find(view(info.from->tag)) != nullptr || pjsip_tsx_detect_merged_requests(rdata) != nullptr) {
        return refuse(Counter::refused_loop, PJSIP_SC_LOOP_DETECTED);
    }
    const pjsip_uri* uri = info.msg->line.req.uri;
    const bool own_scheme = PJSIP_URI_SCHEME_IS_SIP(uri) || PJSIP_URI_SCHEME_IS_SIPS(uri) || PJSIP_URI_SCHEME_IS_TEL(uri);
    const auto& urns = context_.settings.carried_urns;
    const auto is_its = [&](const std::string& service) { return is_within(request_uri_of(rdata), service); };
    if (!own_scheme && std::none_of(urns.begin(), urns.end(), is_its)) {
        return refuse(Counter::refused_scheme, PJSIP_SC_UNSUPPORTED_URI_SCHEME);
    }
    const auto* contact = static_cast<const pjsip_contact_hdr*>(pjsip_msg_find_hdr(info.msg, PJSIP_H_CONTACT, nullptr));
    const bool has_contact = contact != nullptr && !contact->star && contact->uri != nullptr &&
                             (PJSIP_URI_SCHEME_IS_SIP(contact->uri) || PJSIP_URI_SCHEME_IS_SIPS(contact->uri));
    if (!has_contact) {
        return refuse(Counter::refused_malformed, PJSIP_SC_BAD_REQUEST);
    }
    return false;
}

bool Bridge::refused_for_claim(pjsip_rx_data* rdata, const std::optional<Claim>& claim) {
    if (!claim || claim->refused == 0) return false;
    context_.counters.add(Counter::refused_replaces);
    respond_stateless(context_, rdata, claim->refused);
    return true;
}

std::string_view Bridge::refusing() const {
    if (!not_accepting_.empty()) return not_accepting_;
    const bool full = calls_.size() + unacknowledged_.count() >= context_.settings.calls_max;
    return full || context_.events.nearly_full() || context_.memory.is_short() ? "node_full" : "";
}

// One group that acknowledges no refusal of ours has a tenth of the places for that, and the others theirs.
bool Bridge::leaves_refusals(PeerGroup::Id group) const {
    return unacknowledged_.count_of(group) >= std::max<std::size_t>(2, context_.settings.calls_max / 10);
}

// RFC 3261 §17.2.3, with what else an INVITE is named by.
static std::string transaction_name(const pjsip_rx_data* invite) {
    const auto& info = invite->msg_info;
    return dialog_name(sent_by::branch_of(info.via), view(info.from->tag), view(info.cid->id)) + std::to_string(info.cseq->cseq);
}

bool Bridge::refused_for_load(pjsip_rx_data* rdata) {
    const std::string transaction = transaction_name(rdata);
    if (refused_before_.holds(transaction)) {
        context_.counters.add(Counter::refused_again);
        respond_stateless(context_, rdata, PJSIP_SC_SERVICE_UNAVAILABLE, context_.settings.retry_after_s);
        return true;
    }
    auto detail = refusing();
    const PeerGroup::Id group = context_.sender_of(rdata).id();
    if (detail.empty() && leaves_refusals(group)) detail = "node_full";
    if (not_accepting_.empty() && is_emergency_call(rdata)) {
        const auto& settings = context_.settings;
        if (calls_.size() + unacknowledged_.count() < settings.calls_max + settings.emergency_places) return false;
        detail = "node_full";
    }
    if (!detail.empty()) {
        context_.counters.add(not_accepting_.empty() ? Counter::refused_node_full : Counter::refused_not_accepting);
    } else if (decisions_are_late(group)) {
        detail = "node_full";
        context_.counters.add(Counter::refused_overload);
    } else {
        return false;
    }
    refused_before_.note(transaction);
    refuse_with_record(rdata, PJSIP_SC_SERVICE_UNAVAILABLE, detail, context_.settings.retry_after_s);
    return true;
}

// Refused early, a caller is free to go elsewhere, and those who came before are decided about in time.
bool Bridge::decisions_are_late(PeerGroup::Id group) {
    std::size_t decided = 0;
    for (; !waiting_.empty(); waiting_.pop_front(), ++decided) {
        const auto found = calls_.find(waiting_.front().id);
        if (found != calls_.end() && found->second->awaits() == waiting_.front().what) break;
    }
    const std::int64_t oldest_ns = waiting_.empty() ? 0 : waiting_.front().since_ns;
    return admission_gate_.is_closed(context_.moment().mono_ns, waiting_.size(), oldest_ns, decided, Moment::now().mono_ns) &&
           !is_quiet(group);
}

// The queue is made by another: a group that has an eighth of what the largest has in it, and is served in time, may go on.
bool Bridge::is_quiet(PeerGroup::Id group) const {
    std::unordered_map<PeerGroup::Id, std::size_t> counts;
    std::size_t largest = 0;
    std::int64_t own_since_ns = 0;
    for (const auto& [id, what, since_ns, of] : waiting_) {
        if (of == group && own_since_ns == 0) own_since_ns = since_ns;
        largest = std::max(largest, ++counts[of]);
    }
    const bool in_time =
        own_since_ns == 0 || Moment::now().mono_ns - own_since_ns <= 2'000'000LL * context_.settings.admission_wait_ms_max;
    return in_time && (counts[group] + 1) * 8 <= largest;
}

void Bridge::refuse_with_record(pjsip_rx_data* rdata, int code, std::string_view detail, int retry_after_s) {
    report_refused(rdata, code, detail);
    respond_stateless(context_, rdata, code, retry_after_s, our_reason(context_, detail));
}

void Bridge::report_refused(const pjsip_rx_data* rdata, int code, std::string_view detail) {
    if (context_.events.nearly_full()) return context_.counters.add(Counter::events_dropped);
    const auto& info = rdata->msg_info;
    const pjsip_transport* transport = rdata->tp_info.transport;
    const Moment now = context_.moment();
    InviteReceived invite = invite_of(context_, rdata, next_id_++, now);
    invite.leg = {
        .sip_call_id = view(info.cid->id),
        .local_tag = {},
        .remote_tag = view(info.from->tag),
        .local_uri = printed(info.to->uri, PJSIP_URI_IN_FROMTO_HDR),
        .remote_uri = printed(info.from->uri, PJSIP_URI_IN_FROMTO_HDR),
        .remote_target = {},
        .route_set = {},
        .local_cseq = 0,
        .remote_cseq = info.cseq->cseq,
        .branch = sent_by::branch_of(info.via),
        .local_address = host_port(view(transport->local_name.host), transport->local_name.port),
        .remote_address = host_port(rdata->pkt_info.src_name, rdata->pkt_info.src_port),
        .transport = transport_of(transport->key.type),
    };
    context_.events.push(0, now, InviteRefused{{detail}, code, std::move(invite)});
}

void Bridge::on_initial_invite(pjsip_rx_data* rdata) {
    if (refused_as_malformed(rdata)) return;
    auto claim = claim_of(context_, rdata);
    if (refused_for_claim(rdata, claim) || refused_for_load(rdata)) return;
    const std::uint64_t id = next_id_++;
    auto call = std::make_unique<Call>(context_, id);
    if (!call->start(rdata, std::move(claim))) return context_.counters.add(Counter::refused_malformed);
    if (!captured_) context_.capture.received(rdata, context_.moment());
    call->announce(rdata);
    calls_.emplace(id, std::move(call));
    live_calls_.store(calls_.size(), std::memory_order_relaxed);
    context_.counters.add(Counter::invites);
}

void Bridge::on_in_dialog(pjsip_rx_data* rdata) {
    const pjsip_method& method = rdata->msg_info.msg->line.req.method;
    const auto call_id = view(rdata->msg_info.cid->id), local_tag = view(rdata->msg_info.to->tag),
               remote_tag = view(rdata->msg_info.from->tag);
    if (method.id == PJSIP_ACK_METHOD) {  // an early dialog has none
        Leg* answered = find_dialog(call_id, local_tag, remote_tag);
        if (answered == nullptr || answered->call() == nullptr) return context_.counters.add(Counter::acks_unmatched);
        return answered->call()->on_ack(*answered, rdata);
    }
    Leg* leg = find(local_tag);
    Dialog* in_dialog = leg != nullptr && leg->dialog.call_id() == call_id ? leg->dialog_between(local_tag, remote_tag) : nullptr;
    if (in_dialog == nullptr || leg->call() == nullptr) {
        const auto name = dialog_name(local_tag, remote_tag, call_id);
        const bool late_bye = method.id == PJSIP_BYE_METHOD && (in_dialog != nullptr || ended_.holds(name));
        context_.counters.add(late_bye ? Counter::late_byes : Counter::unmatched_requests);
        if (method.id == PJSIP_BYE_METHOD && !late_bye) tell_stray(rdata);
        return respond_stateless(context_, rdata, late_bye ? PJSIP_SC_OK : PJSIP_SC_CALL_TSX_DOES_NOT_EXIST);
    }
    Call* call = leg->call();
    if (call->is_kept()) return;  // the next boot answers, when it is repeated
    Dialog& dialog = *in_dialog;
    dialog.heard_on(rdata->tp_info.transport);
    if (method.id != PJSIP_BYE_METHOD) call->on(inputs::Life{*leg, rdata});  // whatever becomes of the request
    if (method.id != PJSIP_BYE_METHOD && has_broken_sdp(rdata)) {
        context_.counters.add(Counter::refused_malformed);
        return respond_stateless(context_, rdata, PJSIP_SC_BAD_REQUEST);
    }
    const int cseq = rdata->msg_info.cseq->cseq;
    const bool newer = cseq > dialog.remote_cseq();
    if (newer) dialog.set_remote_cseq(cseq);
    if (method.id == PJSIP_BYE_METHOD) {  // it always wins, even out of order
        if (leg->side() == Side::a) return call->on(inputs::ByeOfA{rdata});
        if (in_dialog == &leg->dialog) return call->on(inputs::ByeOfB{rdata});
        context_.counters.add(Counter::unmatched_requests);  // RFC 3261 §15: it cannot end what it has not answered
        return respond_stateless(context_, rdata, PJSIP_SC_CALL_TSX_DOES_NOT_EXIST);
    }
    if (!newer) {  // RFC 3261 §12.2.2
        context_.counters.add(Counter::refused_out_of_order);
        return respond_stateless(context_, rdata, PJSIP_SC_INTERNAL_SERVER_ERROR);
    }
    call->on(inputs::Request{*leg, rdata});
}

// It may be of a call of another node, which is dead and not taken over yet: its peer considers it ended by our 481.
void Bridge::tell_stray(const pjsip_rx_data* bye) {
    constexpr int told_per_s_max = 500;
    if (!context_.settings.tells_stray_byes || context_.strays_told == told_per_s_max) return;
    ++context_.strays_told;
    const auto& info = bye->msg_info;
    const auto text = [](const pj_str_t& of) { return std::string(view(of)); };
    context_.events.push(0, context_.moment(),
                         StrayBye{context_.sender_of(bye).name, text(info.cid->id), text(info.to->tag), text(info.from->tag),
                                  reasons_of(context_, info.msg), wanted_headers_of(context_, info.msg)});
}

// --- responses without a transaction ---------------------------------------------------------------------------------

void Bridge::on_response(pjsip_rx_data* rdata) {
    Leg* leg = find(view(rdata->msg_info.from->tag));
    if (leg == nullptr || view(rdata->msg_info.cid->id) != leg->dialog.call_id()) {
        return context_.counters.add(Counter::unmatched_responses);
    }
    const auto& line = rdata->msg_info.msg->line.status;
    if (rdata->msg_info.cseq->method.id != PJSIP_INVITE_METHOD) return;
    if (line.code >= 300) {
        if (auto* callee = dynamic_cast<CalleeLeg*>(leg)) callee->on_late_failure(rdata);
        return;
    }
    if (line.code / 100 != 2) return;
    if (view(rdata->msg_info.to->tag) == leg->dialog.remote_tag()) {
        leg->on_repeated_answer(rdata);
    } else if (auto* callee = dynamic_cast<CalleeLeg*>(leg)) {
        callee->on_branch_answer(rdata);
    }
}

void Bridge::on_dropped(const pjsip_tp_dropped_data& dropped) {
    if (dropped.status == PJ_EIGNORED) return second_reading_.skip(dropped);  // a keep-alive, or ahead of a message
    const int code = BrokenStreams::code_for(dropped);
    const auto bytes = BrokenStreams::received(dropped);
    std::string_view reason = code == PJSIP_SC_MESSAGE_TOO_LARGE ? "length" : "Content-Length";
    const auto heard = SecondReading::to_be_heard(bytes, code);
    if (!heard.empty()) {
        const bool stream = (dropped.tp->flag & PJSIP_TRANSPORT_DATAGRAM) == 0;
        const auto ending = stream ? SecondReading::ending_in(heard) : std::string();
        reason = second_reading_.hear(dropped, ending.empty() ? heard : std::string_view(ending));
        if (!reason.empty()) tell_dropped(&second_reading_.message(), bytes, reason);
    }
    if (!reason.empty()) {
        context_.counters.add(code == PJSIP_SC_MESSAGE_TOO_LARGE ? Counter::refused_too_large : Counter::dropped_unparsable);
    }
    if (code == 0) return;
    for (const auto& [tag, leg] : legs_) leg->let_go_of(dropped.tp);
    const bool listed = context_.group_of(&dropped.tp->key.rem_addr, dropped.tp).is_listed();
    broken_streams_.give_up(dropped, reason.empty() ? 0 : code, listed);
}

void Bridge::tell_dropped(const pjsip_rx_data* rdata, std::string_view bytes, std::string_view reason) {
    if (!context_.sender_of(rdata).is_listed()) return;
    auto names = SecondReading::names_in(bytes);
    sidecar::tell_dropped(context_, rdata, std::move(names.method), std::move(names.call_id), reason);
}

}  // namespace sidecar

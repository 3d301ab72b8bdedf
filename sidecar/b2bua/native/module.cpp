// The Python face of the native bridge: sidecar.b2bua._bridge.
#include "bridge.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <pj/config.h>

#include <algorithm>

namespace nb = nanobind;
using namespace sidecar;

namespace {

// --- events ----------------------------------------------------------------------------------------------------------

nb::bytes drain(Bridge& self) {
    const std::string events = self.drain();
    return nb::bytes(events.data(), events.size());
}

// --- commands: objects of core/commands, field by field --------------------------------------------------------------

template <Word T>
T word_of(nb::handle from) {
    const auto said = nb::cast<std::string>(from);
    const auto& words = Words<T>::words;
    const auto found = std::find(words.begin(), words.end(), said);
    if (found == words.end()) throw nb::value_error(("no such word: " + said).c_str());
    return static_cast<T>(found - words.begin());
}

template <Declared T>
void read(nb::handle from, std::optional<T>& to);
template <Declared T>
void read(nb::handle from, std::vector<T>& to);

template <typename T>
void read(nb::handle from, T& to) {
    if constexpr (Word<T>) {
        if constexpr (std::same_as<T, DeadlineKind>) {
            to = static_cast<T>(nb::cast<int>(from));
        } else {
            to = word_of<T>(from);
        }
    } else if constexpr (Declared<T>) {
        T::each_field(to, [&](const char* field, auto& value) { read(from.attr(field), value); });
    } else {
        to = nb::cast<T>(from);
    }
}

template <Declared T>
void read(nb::handle from, std::vector<T>& to) {
    for (nb::handle item : from) read(item, to.emplace_back());
}

template <Declared T>
void read(nb::handle from, std::optional<T>& to) {
    if (from.is_none()) return to.reset();
    read(from, to.emplace());
}

template <typename T>
bool is_read(nb::handle item, std::string_view kind, std::vector<Command>& batch) {
    if (T::name != kind) return false;
    T command{};
    T::each_field(command, [&](const char* field, auto& value) { read(item.attr(field), value); });
    if constexpr (std::same_as<T, commands::Reject> || std::same_as<T, commands::Release>) {
        if (command.sip_code < 300 || command.sip_code > 699) throw nb::value_error("sip_code of a refusal is 300-699");
    }
    batch.emplace_back(std::move(command));
    return true;
}

void post(Bridge& self, nb::handle sequence) {
    std::vector<Command> batch;
    for (nb::handle item : sequence) {
        const std::string_view kind = Py_TYPE(item.ptr())->tp_name;
        const bool known = [&]<typename... T>(std::tuple<T...>*) {
            return (is_read<T>(item, kind, batch) || ...);
        }(static_cast<commands::All*>(nullptr));
        if (!known) throw nb::type_error("not a command of the bridge");
    }
    self.post(std::move(batch));
}

void set_accepting(Bridge& self, const std::string& detail) {
    std::vector<Command> batch;
    batch.emplace_back(commands::SetAccepting{detail});
    self.post(std::move(batch));
}

void keep(Bridge& self) {
    std::vector<Command> batch;
    batch.emplace_back(commands::Keep{});
    self.post(std::move(batch));
}

void hear(Bridge& self) {
    std::vector<Command> batch;
    batch.emplace_back(commands::Hear{});
    self.post(std::move(batch));
}

void renew_tls(Bridge& self, std::shared_ptr<TlsCredentials> credentials) {
    std::vector<Command> batch;
    batch.emplace_back(commands::RenewTls{std::move(credentials)});
    self.post(std::move(batch));
}

// --- declarations ----------------------------------------------------------------------------------------------------

template <typename Tuple>
nb::dict declared() {  // {name: ((field, type), ...)}
    nb::dict out;
    [&]<typename... T>(std::tuple<T...>*) {
        (..., [&] {
            nb::list fields;
            for (const auto& [field, type] : described<T>()) fields.append(nb::make_tuple(field, type));
            out[std::string(T::name).c_str()] = nb::tuple(fields);
        }());
    }(static_cast<Tuple*>(nullptr));
    return out;
}

template <typename... T>
nb::dict declared_words() {  // {name: (word, ...)}
    nb::dict out;
    (..., [&] {
        nb::list words;
        for (const auto word : Words<T>::words) words.append(std::string(word));
        out[std::string(Words<T>::name).c_str()] = nb::tuple(words);
    }());
    return out;
}

// --- the rest --------------------------------------------------------------------------------------------------------

Settings to_settings(nb::dict d) {
    Settings s{};
    const auto get = [&](const char* key) -> nb::object { return d[key]; };  // KeyError where it is missing
    const auto advertised = nb::cast<std::vector<std::string>>(get("advertised"));
    for (std::size_t i = 0; i < s.advertised.size(); ++i) s.advertised[i] = advertised.at(i);
    s.calls_max = nb::cast<std::size_t>(get("calls_max"));
    s.emergency_places = nb::cast<std::size_t>(get("emergency_places"));
    s.emergency_users = nb::cast<std::vector<std::string>>(get("emergency_users"));
    s.events_max = nb::cast<std::size_t>(get("events_max"));
    s.patience_ms = nb::cast<int>(get("patience_ms"));
    s.batch_interval_ms = nb::cast<int>(get("batch_interval_ms"));
    s.trying_ms = nb::cast<int>(get("trying_ms"));
    s.answer_hold_ms_max = nb::cast<int>(get("answer_hold_ms_max"));
    s.admission_wait_ms_max = nb::cast<int>(get("admission_wait_ms_max"));
    s.retry_after_s = nb::cast<int>(get("retry_after_s"));
    s.t1_ms = nb::cast<unsigned>(get("t1_ms"));
    s.tells_stray_byes = nb::cast<bool>(get("tells_stray_byes"));
    s.options_interval_ms = nb::cast<int>(get("options_interval_ms"));
    s.keep_assertions_outside = nb::cast<bool>(get("keep_assertions_outside"));
    s.pass_refer = nb::cast<bool>(get("pass_refer"));
    s.unlisted_refused_per_s = nb::cast<int>(get("unlisted_refused_per_s"));
    s.refuse_unlisted = nb::cast<bool>(get("refuse_unlisted"));
    s.wanted_headers = nb::cast<std::vector<std::string>>(get("wanted_headers"));
    s.carried_urns = nb::cast<std::vector<std::string>>(get("carried_urns"));
    s.product = nb::cast<std::string>(get("product"));
    for (auto [detail, cause] : nb::cast<nb::dict>(get("q850_causes"))) {
        s.q850_causes[nb::cast<std::string>(detail)] = nb::cast<int>(cause);
    }
    for (const auto detail : own_details) {
        if (!s.q850_causes.contains(std::string(detail))) throw nb::key_error(("q850_causes: " + std::string(detail)).c_str());
    }
    for (nb::handle item : nb::cast<nb::list>(get("credentials"))) {
        const auto one = nb::cast<nb::tuple>(item);
        s.credentials[nb::cast<std::string>(one[0])] = {nb::cast<std::string>(one[1]), nb::cast<std::string>(one[2]),
                                                       nb::cast<std::string>(one[3])};
    }
    s.tls = nb::cast<std::shared_ptr<TlsInForce>>(get("tls"));  // None: null
    const auto collector = nb::cast<nb::tuple>(get("collector"));
    s.collector = {nb::cast<std::string>(collector[0]), nb::cast<int>(collector[1]), nb::cast<std::uint32_t>(collector[2]),
                   nb::cast<std::string>(collector[3])};
    s.verify_tls = nb::cast<bool>(get("verify_tls"));
    for (nb::handle item : nb::cast<nb::list>(get("gateway_tls"))) {
        const auto gateway = nb::cast<nb::tuple>(item);
        auto& one = s.gateway_tls[lower(nb::cast<std::string>(gateway[0]))];
        for (const auto& name : nb::cast<std::vector<std::string>>(gateway[1])) one.names.push_back(lower(name));
        one.authority = std::max(one.authority, nb::cast<int>(gateway[2]));
    }
    auto peers = std::make_shared<PeerTable>();
    for (nb::handle item : nb::cast<nb::list>(get("peers"))) {
        const auto group = nb::cast<nb::tuple>(item);
        peers->add({.name = nb::cast<std::string>(group[0]),
                    .tls_names = nb::cast<std::vector<std::string>>(group[3]),
                    .port = nb::cast<int>(group[2]),
                    .requests_per_s = nb::cast<int>(group[4]),
                    .liveness = word_of<LivenessCheck>(group[5]),
                    .shares_dialogs = nb::cast<bool>(group[6]),
                    .finds_nat = nb::cast<bool>(group[7]),
                    .asserts_identity = nb::cast<bool>(group[8]),
                    .authority = nb::cast<int>(group[9])},
                   nb::cast<std::vector<std::string>>(group[1]));
    }
    s.peers = std::move(peers);
    return s;
}

void reconfigure(Bridge& self, nb::dict settings, std::shared_ptr<TlsCredentials> credentials) {
    std::vector<Command> batch;
    batch.emplace_back(commands::Reconfigure{std::make_shared<Settings>(to_settings(settings)), std::move(credentials)});
    self.post(std::move(batch));
}

nb::dict stats(const Bridge& self) {
    nb::dict out;
    for (std::size_t i = 0; i < std::size(counter_names); ++i) out[counter_names[i]] = self.counters().get(i);
    out["live_calls"] = self.live_calls();
    out["abandoned_legs"] = self.abandoned_legs();
    out["transactions"] = self.transactions();
    out["pools"] = self.pools();
    out["memory_short"] = static_cast<int>(self.memory_is_short());  // 1: new calls are refused for want of it
    return out;
}

nb::tuple names(const std::string& b_token, int attempt) {
    const LegNames n = leg_b_names(b_token, attempt);
    return nb::make_tuple(n.call_id, n.tag, n.branch);
}

}  // namespace

NB_MODULE(_bridge, m) {
    m.doc() = "The native pjsip module that bridges INVITE dialogs.";
    m.def("pj_version", &pj_get_version, "The version of the pjproject that is loaded.");
    m.attr("PJ_BUILT") = SIDECAR_PJ_BUILT;  // when, and by which compiler
    m.attr("PJ_BUILD") = SIDECAR_PJ_BUILD;  // version and hash of the build it was compiled against
    m.attr("EVENTS") = declared<Events>();
    m.attr("VALUES") = declared<decltype(std::tuple_cat(Values{}, commands::Values{}))>();
    m.attr("COMMANDS") = declared<commands::All>();
    m.attr("WORDS") = declared_words<Side, Transport, RouteFailure, LivenessCheck, SavedLegState, DeadlineKind>();
    m.def("leg_b_names", &names, "What the bridge itself derives; sidecar.core.identity must give the same.");
    m.def("check_settings", [](nb::dict settings) { to_settings(settings); }, "ValueError: Bridge would not take them.");
    m.def("silence", [] { pj_log_set_level(0); }, "No lines from pjlib on stdout before pjsua has its settings.");
    nb::class_<TlsCredentials>(m, "TlsCredentials")
        .def(nb::init<const std::string&, const std::string&, const std::vector<std::string>&>(),
             nb::call_guard<nb::gil_scoped_release>())
        .def("ends", &TlsCredentials::ends);
    nb::class_<TlsInForce>(m, "TlsInForce")
        .def("__init__", [](TlsInForce* self, std::shared_ptr<TlsCredentials> first) { new (self) TlsInForce(std::move(first)); })
        .def("certificate_file", &TlsInForce::certificate_file)
        .def("key_file", &TlsInForce::key_file)
        .def("authorities_file", &TlsInForce::authorities_file);
    nb::class_<Bridge>(m, "Bridge")
        .def("__init__", [](Bridge* self, nb::dict settings) { new (self) Bridge(to_settings(settings)); })
        .def("start", &Bridge::start)
        .def("stop", &Bridge::stop, nb::call_guard<nb::gil_scoped_release>())
        .def("event_fd", &Bridge::event_fd)
        .def("drain", &drain)
        .def("post", &post)
        .def("keep", &keep)
        .def("hear", &hear)
        .def("set_accepting", &set_accepting)
        .def("renew_tls", &renew_tls)
        .def("reconfigure", &reconfigure, nb::arg("settings"), nb::arg("credentials").none())
        .def("stats", &stats);
}

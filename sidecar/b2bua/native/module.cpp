// The Python face of the native bridge: sidecar.b2bua._bridge.
#include "bridge.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <pj/config.h>
#include <pjsua-lib/pjsua.h>

namespace nb = nanobind;
using namespace sidecar;

namespace {

// --- events: packed fields -> Python objects -------------------------------------------------------------------------

class Unpacker {
public:
    explicit Unpacker(const std::string& packed) : at_(packed.data()), end_(at_ + packed.size()) {}
    bool more() const { return at_ < end_; }
    nb::object next() {
        switch (*at_++) {
            case 'n':
                return nb::int_(take<std::int64_t>());
            case 't': {
                const auto size = take<std::uint32_t>();
                PyObject* text = PyUnicode_DecodeUTF8(at_, static_cast<Py_ssize_t>(size), "backslashreplace");
                if (text == nullptr) throw nb::python_error();
                at_ += size;
                return nb::steal(text);
            }
            default: {  // 'l'
                const auto count = take<std::uint32_t>();
                PyObject* items = PyTuple_New(static_cast<Py_ssize_t>(count));
                if (items == nullptr) throw nb::python_error();
                nb::object owned = nb::steal(items);
                for (std::uint32_t i = 0; i < count; ++i) {
                    PyTuple_SET_ITEM(items, static_cast<Py_ssize_t>(i), next().release().ptr());
                }
                return owned;
            }
        }
    }

private:
    template <typename T>
    T take() {
        T value;
        std::memcpy(&value, at_, sizeof value);
        at_ += sizeof value;
        return value;
    }
    const char* at_;
    const char* end_;
};

nb::tuple to_tuple(const Event& event) {
    nb::list fields;
    for (Unpacker unpacker(event.fields.packed()); unpacker.more();) fields.append(unpacker.next());
    return nb::make_tuple(static_cast<int>(event.kind), event.bridge_id, static_cast<int>(event.side), event.at.mono_ns,
                          event.at.wall_ns, event.code, nb::tuple(fields));
}

nb::list drain(Bridge& self) {
    std::vector<Event> events;
    self.drain(events);
    nb::list out;
    for (const Event& event : events) out.append(to_tuple(event));
    return out;
}

// --- commands: (kind, bridge_id, ...) -> Command ---------------------------------------------------------------------

int to_transport(nb::handle number) {
    const int transport = nb::cast<int>(number);
    if (transport < 0 || transport > 2) throw nb::value_error("transport is 0, 1 or 2");
    return transport;
}

Command to_command(nb::tuple t) {
    Command command;
    command.kind = static_cast<CommandKind>(nb::cast<int>(t[0]));
    command.bridge_id = nb::cast<std::uint64_t>(t[1]);
    switch (command.kind) {
        case CommandKind::route:
            command.attempt = nb::cast<int>(t[2]);
            command.host = nb::cast<std::string>(t[3]);
            command.port = nb::cast<int>(t[4]);
            command.transport = to_transport(t[5]);
            command.user = nb::cast<std::string>(t[6]);
            command.milliseconds = nb::cast<int>(t[7]);
            command.gateway = nb::cast<std::string>(t[8]);
            command.no_progress_ms = nb::cast<int>(t[9]);
            command.from_user = nb::cast<std::string>(t[10]);
            command.anonymous = nb::cast<bool>(t[11]);
            command.add_headers = nb::cast<std::vector<std::pair<std::string, std::string>>>(t[12]);
            command.withheld_headers = nb::cast<std::vector<std::string>>(t[13]);
            break;
        case CommandKind::relay_failure:
            command.sip_code = nb::cast<int>(t[2]);
            command.keep_retry_after = nb::cast<bool>(t[3]);
            command.keep_contacts = nb::cast<bool>(t[4]);
            break;
        case CommandKind::reject:
            command.retry_after_s = nb::cast<int>(t[5]);
            [[fallthrough]];
        case CommandKind::release:
            command.sip_code = nb::cast<int>(t[2]);
            command.q850_cause = nb::cast<int>(t[3]);
            command.text = nb::cast<std::string>(t[4]);
            break;
        case CommandKind::arm_deadline:
            command.deadline = nb::cast<int>(t[2]);
            command.milliseconds = nb::cast<int>(t[3]);
            command.sip_code = nb::cast<int>(t[4]);
            command.q850_cause = nb::cast<int>(t[5]);
            command.text = nb::cast<std::string>(t[6]);
            break;
        case CommandKind::set_accepting:
            command.text = nb::cast<std::string>(t[2]);
            break;
        case CommandKind::ask_gateway:
            command.gateway = nb::cast<std::string>(t[2]);
            command.host = nb::cast<std::string>(t[3]);
            command.port = nb::cast<int>(t[4]);
            command.transport = to_transport(t[5]);
            command.user = nb::cast<std::string>(t[6]);
            command.milliseconds = nb::cast<int>(t[7]);
            command.request = std::make_unique<Request>(
                Request{nb::cast<std::string>(t[8]), nb::cast<std::string>(t[9]), nb::cast<std::string>(t[10]),
                        nb::cast<int>(t[11]), nb::cast<int>(t[12])});
            break;
        case CommandKind::relay_answer:
        case CommandKind::snapshot:
            break;
        default:
            throw nb::value_error("no such command");
    }
    const bool answers = command.kind == CommandKind::reject || command.kind == CommandKind::release;
    if (answers && (command.sip_code < 300 || command.sip_code > 699)) {
        throw nb::value_error("sip_code of a refusal is 300-699");
    }
    return command;
}

void post(Bridge& self, nb::list commands) {
    std::vector<Command> batch;
    batch.reserve(nb::len(commands));
    for (nb::handle item : commands) batch.push_back(to_command(nb::cast<nb::tuple>(item)));
    self.post(std::move(batch));
}

// --- the rest --------------------------------------------------------------------------------------------------------

Settings to_settings(nb::dict d) {
    Settings s;
    const auto get = [&](const char* key) -> nb::object { return d[key]; };
    const auto advertised = nb::cast<std::vector<std::string>>(get("advertised"));
    for (std::size_t i = 0; i < s.advertised.size(); ++i) s.advertised[i] = advertised.at(i);
    s.calls_max = nb::cast<std::size_t>(get("calls_max"));
    s.events_max = nb::cast<std::size_t>(get("events_max"));
    s.answer_hold_ms_max = nb::cast<int>(get("answer_hold_ms_max"));
    s.admission_wait_ms_max = nb::cast<int>(get("admission_wait_ms_max"));
    s.retry_after_s = nb::cast<int>(get("retry_after_s"));
    s.t1_ms = nb::cast<unsigned>(get("t1_ms"));
    s.options_interval_ms = nb::cast<int>(get("options_interval_ms"));
    s.pass_refer = nb::cast<bool>(get("pass_refer"));
    s.unlisted_refused_per_s = nb::cast<int>(get("unlisted_refused_per_s"));
    s.refuse_unlisted = nb::cast<bool>(get("refuse_unlisted"));
    s.wanted_headers = nb::cast<std::vector<std::string>>(get("wanted_headers"));
    s.product = nb::cast<std::string>(get("product"));
    for (nb::handle item : nb::cast<nb::list>(get("credentials"))) {
        const auto one = nb::cast<nb::tuple>(item);
        s.credentials[nb::cast<std::string>(one[0])] = {nb::cast<std::string>(one[1]), nb::cast<std::string>(one[2]),
                                                       nb::cast<std::string>(one[3])};
    }
    for (nb::handle item : nb::cast<nb::list>(get("peers"))) {
        const auto group = nb::cast<nb::tuple>(item);
        s.peers.add(nb::cast<std::string>(group[0]), nb::cast<std::vector<std::string>>(group[1]), nb::cast<int>(group[2]),
                    nb::cast<std::vector<std::string>>(group[3]), nb::cast<int>(group[4]));
    }
    return s;
}

nb::dict stats(const Bridge& self) {
    nb::dict out;
    for (std::size_t i = 0; i < std::size(counter_names); ++i) out[counter_names[i]] = counters.get(i);
    out["live_calls"] = self.live_calls();
    out["abandoned_legs"] = self.abandoned_legs();
    out["transactions"] = self.transactions();
    out["pools"] = self.pools();
    return out;
}

void start(Bridge& self) {
    stack.endpoint = pjsua_get_pjsip_endpt();
    self.start();
}

nb::tuple names(const std::string& b_token, int attempt) {
    const LegNames n = leg_b_names(b_token, attempt);
    return nb::make_tuple(n.call_id, n.tag, n.branch);
}

}  // namespace

NB_MODULE(_bridge, m) {
    m.doc() = "The native pjsip module that bridges INVITE dialogs.";
    m.def("pj_version", &pj_get_version, "The version of the pjproject that is loaded.");
    m.attr("PJ_BUILD") = SIDECAR_PJ_BUILD;  // version and hash of the build it was compiled against
    m.def("leg_b_names", &names, "What the bridge itself derives; sidecar.core.identity must give the same.");
    m.def("silence", [] { pj_log_set_level(0); }, "No lines from pjlib on stdout before pjsua has its settings.");
    nb::class_<Bridge>(m, "Bridge")
        .def("__init__", [](Bridge* self, nb::dict settings) { new (self) Bridge(to_settings(settings)); })
        .def("start", &start)
        .def("stop", &Bridge::stop, nb::call_guard<nb::gil_scoped_release>())
        .def("event_fd", &Bridge::event_fd)
        .def("drain", &drain)
        .def("post", &post)
        .def("stats", &stats);
}

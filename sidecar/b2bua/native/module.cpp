// The Python face of the native bridge: sidecar.b2bua._bridge.
#include <nanobind/nanobind.h>
#include <pj/config.h>

NB_MODULE(_bridge, m) {
    m.doc() = "The native pjsip module that bridges INVITE dialogs.";
    m.def("pj_version", &pj_get_version, "The version of the pjproject that is loaded.");
    m.attr("PJ_BUILD") = SIDECAR_PJ_BUILD;  // version and hash of the build it was compiled against
}

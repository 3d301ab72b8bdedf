// What Identity headers say (RFC 8224): the payload of each PASSporT (RFC 8225), not verified and still encoded.
#pragma once

#include "context.hpp"

#include <string>
#include <vector>

namespace sidecar {

std::vector<std::string> passports_of(Context& context, const pjsip_rx_data* invite);  // bounded

}  // namespace sidecar

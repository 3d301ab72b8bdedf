#include "relay.hpp"

namespace sidecar {

bool Relay::start(pjsip_rx_data*) { return false; }
void Relay::on_ack(const pjsip_rx_data*) {}
void Relay::close() {}
void Relay::on_tsx(pjsip_transaction*, pjsip_event&) {}
void Relay::on_cancel(pjsip_rx_data*) {}

}  // namespace sidecar

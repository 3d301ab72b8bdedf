// Making messages, and what of a received message may pass to the other leg.
#pragma once

#include "assertions.hpp"
#include "event.hpp"
#include "text.hpp"
#include "transaction.hpp"

#include <pjsip.h>

#include <memory>
#include <string>
#include <vector>

namespace sidecar {

struct PoolRelease {
    void operator()(pj_pool_t* pool) const { pj_pool_release(pool); }
};
using PoolPtr = std::unique_ptr<pj_pool_t, PoolRelease>;  // owns a pool of the endpoint
PoolPtr new_pool(const Context& context, const char* name, std::size_t initial, std::size_t increment);

// Which headers a B2BUA keeps to itself. Each leg has its own dialog and its own hop, so what names either must not pass;
// everything else must, above all what we do not know (RFC 3261 §16.6 asks that of proxies, and our peers expect it).
namespace header_policy {
struct Options {
    bool body = true;           // false: without body, RSeq and 100rel (an 18x of a second branch)
    bool retry_after = true;
    bool challenges = true;     // false: shown with another code than its own
    const std::vector<std::string>* withheld = nullptr;  // names, lower case; borrowed for the call
    bool contacts = false;      // true: those of a held 3xx
    bool identity = true;       // false: what Identity signs is not what is sent (RFC 8224)
    Receiver receiver{};        // what it may be told of who speaks
};
bool passes(const pjsip_hdr* header, const Options& options);
bool is_translated(const pjsip_hdr* header);  // passes in the other leg's names alone: see translation.hpp
void copy(const pjsip_hdr* list, pj_pool_t* pool, pjsip_msg* to, const Options& options, bool sender_trusted);
}  // namespace header_policy

// Headers and body of a received message, kept while the decision about it is awaited. Owns its pool.
class HeldMessage {
public:
    HeldMessage(Context& context, const pjsip_rx_data* rdata);

    void put_into(pjsip_tx_data* tdata, const header_policy::Options& options = {}) const;
    bool has_identity() const { return sidecar::has_identity(&headers_); }
    bool has_session() const { return has_session_; }  // an offer or an answer
    const pjsip_msg_body* body() const { return body_; }
    int code() const { return code_; }
    std::string_view phrase() const { return view(phrase_); }

private:
    PoolPtr pool_;
    pjsip_hdr headers_;  // list head; the items live in pool_
    pjsip_msg_body* body_ = nullptr;
    bool has_session_ = false;
    bool sender_trusted_;
    int code_ = 0;
    pj_str_t phrase_{};
    std::vector<std::string> contacts_;  // of a 3xx
};

struct NamedHeader {
    const char* name;
    std::string value;
};

// Straight from a received message into one that leaves now.
void pass_through(const Context& context, const pjsip_rx_data* rdata, pjsip_tx_data* tdata, const header_policy::Options& options);

// What every response to one request has in common. Each response is made afresh from it, so that headers given to one
// cannot leak into the next. Owns a reference to the message that holds the common headers.
class ResponseBase {
public:
    ResponseBase() = default;
    ResponseBase(const Context& context, const pjsip_rx_data* rdata, std::string_view to_tag);
    explicit operator bool() const { return base_ != nullptr; }
    TxPtr trying() const;  // 100: the base itself
    // Null: out of memory. `to_tag`: instead of its own.
    TxPtr make(const Context& context, int code, std::string_view phrase = {}, std::string_view to_tag = {}) const;

private:
    TxPtr base_;
    pj_str_t to_tag_{};  // lives in base_'s pool
};

std::string random_hex(std::size_t bytes);

TxPtr new_message(const Context& context, pjsip_msg_type_e type);
void add_header(pjsip_tx_data* tdata, std::string_view name, std::string_view value);  // copies both
void add_reasons(pjsip_tx_data* tdata, const std::vector<std::string>& values);
std::string our_reason(int q850_cause, std::string_view text);
std::string our_reason(const Context& context, std::string_view detail);  // with the cause that the core has for it

bool leads_by_sip(const pjsip_hdr* record_route);  // RFC 3261 §20.30: pjsip reads other addresses too, and goes nowhere
std::string contact_of(const pjsip_msg* msg);  // where the peer wants to be reached; empty: it does not say

Reasons reasons_of(Context& context, const pjsip_msg* msg);         // bounded
Headers wanted_headers_of(Context& context, const pjsip_msg* msg);  // bounded
const pjsip_hdr* find_header(const pjsip_msg* msg, const char* name);
// Whether a header that is a list of tokens, in one field or several, has this one.
bool lists(const pjsip_msg* msg, const char* name, std::string_view token);
// The values of a header as they arrived, a field each, unfolded; bounded. pjsip prints some of what it has parsed
// otherwise (0.05 as 0.5). `short_name`: its compact form, or empty.
std::vector<std::string> raw_values(Context& context, const pjsip_rx_data* rdata, std::string_view name,
                                    std::string_view short_name);

// What every response to a request repeats of it (RFC 3261 §8.2.6.2), a line each, as it arrived; but for Call-ID.
std::vector<std::string> echoed_lines(Context& context, const pjsip_rx_data* request);

// One Request-Disposition (RFC 3841 §9.1): what the caller asks of proxies, but that none forks: we bill one callee.
void ask_for_one_callee(pjsip_tx_data* invite);

// Some header fields that pjsip has read are put back to what was received, for they are the other leg's to read.
void keep_as_received(Context& context, pjsip_rx_data* rdata);

// CANCEL to an INVITE that was sent (RFC 3261 §9.1): same Request-URI, Via, Route, From, To, Call-ID, CSeq number.
TxPtr cancel_of(const Context& context, const pjsip_tx_data* invite);

// Answers a request for good, with a transaction that takes its repeats. False where pjsip refuses the transaction.
bool answer_request(Context& context, pjsip_rx_data* rdata, int code, std::string_view to_tag, int retry_after_s = 0);

// For the log: ten a second. `method`: of a response, that in its CSeq.
void tell_dropped(Context& context, const pjsip_rx_data* rdata, std::string method, std::string call_id, std::string_view reason);

// Right names, wrong source: counted, and told for the log.
void drop_foreign(Context& context, const pjsip_rx_data* rdata);

// A response outside any dialog or transaction. `retry_after_s` 0: none.
void respond_stateless(Context& context, pjsip_rx_data* rdata, int code, int retry_after_s = 0,
                       const std::string& reason = {});
void respond_unsupported(Context& context, pjsip_rx_data* rdata, std::string_view extensions);  // 420

}  // namespace sidecar

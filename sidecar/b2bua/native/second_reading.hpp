// Messages that pjsip drops because of one header field, read again.
#pragma once

#include "defects.hpp"
#include "message.hpp"

#include <pjsip.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sidecar {

// pjsip reads each header field that it knows, and drops the whole message where it cannot read one: also an Expires that
// nobody here asks for, or credentials that are not Digest. It tells of that in a callback, with the bytes. Here such a
// message is read once more, with the names of those fields spoilt, so that pjsip takes them for fields that it does not
// know and passes on as they came; then the names are put right again. What of them only this hop needs is taken out, and
// Defects says what was wrong. Where From, To, Call-ID or CSeq is missing or unreadable a stand-in takes its place.
//
// Costs nothing for a message that pjsip can read. One message at a time, in the native thread.
class SecondReading {
public:
    explicit SecondReading(const Context& context) : context_(context), message_(std::make_unique<pjsip_rx_data>()) {}

    // pjsip tells of blank lines ahead of a datagram by itself.
    void skip(const pjsip_tp_dropped_data& blank_lines);
    // Gives the message to pjsip's modules, as pjsip does. Empty; or why it is lost. `bytes`: from its first line on.
    std::string_view hear(const pjsip_tp_dropped_data& dropped, std::string_view bytes);
    const pjsip_rx_data& message() const { return *message_; }  // the last: its source is known where that could be read

    // Of bytes that are no message that pjsip can read.
    // What of it can be heard where the length of its body is wrong, which `code` is the answer to; 0: it is not. Nothing of a
    // request that may need its body.
    static std::string_view to_be_heard(std::string_view bytes, int code);
    // The BYE, CANCEL or ACK that lies behind what is left of a body whose length was wrong, or that lost its beginning to one.
    // Anything else there may be of another's making. Empty: there is none, or the message begins as one does.
    static std::string ending_in(std::string_view bytes);
    struct Names {
        std::string method, call_id;  // bounded; of a response the method is that of its CSeq
    };
    static Names names_in(std::string_view bytes);

private:
    std::string_view read(const pjsip_tp_dropped_data& dropped, std::string_view bytes);
    bool take_source(const pjsip_tp_dropped_data& dropped);
    std::string_view lay_out(std::string_view bytes);
    std::string_view parse();
    std::string_view spoil_names();
    bool replace_request_line();
    void put_right();
    std::string_view mend();
    bool was_spoilt(const pjsip_hdr* field) const;
    std::string_view mend_field(pjsip_generic_string_hdr* field, bool below_via);
    void stand_in_for_missing();
    template <typename H>
    void stand_in(pjsip_generic_string_hdr* field, H*& known, H* instead);

    static constexpr std::size_t slack = 64;  // room for another Request-URI

    const Context& context_;
    std::unique_ptr<pjsip_rx_data> message_;
    pj_pool_t* pool_ = nullptr;  // of the message that is being read
    Defects defects_;
    std::string_view blank_lines_;
    std::string_view first_line_;  // these two are in message_'s packet
    char* end_ = nullptr;
    bool has_body_ = false;
    std::string method_;  // empty: a response
    std::vector<std::pair<char*, char>> spoilt_;  // first letters of names, and what they were; sorted once all are known
    std::string replaced_;  // what stood where there is another request line now
};

}  // namespace sidecar

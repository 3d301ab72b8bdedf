// Everything that is dropped, refused, cut or unexpected is counted here; Bridge.stats() gives the names to Python.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace sidecar {

#define SIDECAR_COUNTERS(X)                                                                                  \
    X(invites)                    /* initial INVITEs that became a call */                                   \
    X(calls_ended)                                                                                           \
    X(calls_adopted)              /* of an earlier boot */                                                   \
    X(answers_relayed)                                                                                       \
    X(requests_relayed)           /* in-dialog requests passed to the other leg */                           \
    X(refused_node_full)          /* 503: calls_max, or Python does not drain the event queue */             \
    X(refused_overload)           /* 503: its decision would come later than admission_wait_ms_max */        \
    X(refused_again)              /* 503: a repeat of an INVITE that one of these was said to */             \
    X(refused_not_accepting)      /* 503: Python said so (drain, journal) */                                 \
    X(refused_unlisted)           /* 403 to an unlisted source */                                            \
    X(dropped_unlisted)           /* any request of an unlisted source */                                    \
    X(dropped_over_rate)          /* requests of a source above its requests_per_s */                        \
    X(dropped_for_memory)         /* requests but BYE, CANCEL and ACK, while the reserve of memory is in use */ \
    X(refused_connections)        /* closed: too many, or of a stranger who said nothing that counts */      \
    X(refused_certificates)       /* TLS connections closed: not the authority or the name that is asked for */ \
    X(tls_renewals)               /* times that other credentials came into force */                          \
    X(dropped_foreign)            /* right tags, but from none of the leg's own addresses */                  \
    X(dropped_unparsable)         /* which message it is, or whose, cannot be read */                        \
    X(refused_malformed)          /* 400 */                                                                  \
    X(refused_extension)          /* 420: Proxy-Require, or Require in an OPTIONS */                        \
    X(refused_scheme)             /* 416 */                                                                  \
    X(refused_loop)               /* 482: our own INVITE came back, or two copies of one came in */          \
    X(refused_hops)               /* 483 */                                                                  \
    X(refused_too_large)          /* 513 */                                                                  \
    X(refused_replaces)           /* 481 or 400: it names no dialog of ours */                                \
    X(refused_refer)              /* 603 */                                                                  \
    X(refused_overlap)            /* 491 or 500: a second re-INVITE */                                       \
    X(refused_out_of_order)       /* 500: CSeq not above the last one */                                     \
    X(refused_relays)             /* 500: too many in-dialog requests open in one call */                    \
    X(identities_removed)         /* Identity (RFC 8224): From, To or the number is not what it signs any more */ \
    X(unmatched_requests)         /* 481 or 405: no dialog of ours */                                        \
    X(unmatched_responses)                                                                                   \
    X(options_answered)                                                                                      \
    X(late_byes)                  /* answered 200 after their leg had ended (BYE/BYE crossing) */            \
    X(repeated_answers)           /* a 2xx again: absorbed while held, else its ACK was repeated */          \
    X(dropped_answers)            /* 2xx that got ACK and BYE at once */                                     \
    X(acks_unmatched)                                                                                        \
    X(send_failures)                                                                                         \
    X(unresolved_targets)         /* next hop is a name of no gateway: sent to where the peer speaks from */  \
    X(texts_cut)                  /* a field longer than its bound in an event */                            \
    X(events_dropped)             /* non-essential events while the queue was over events_max */             \
    X(commands_unmatched)         /* the call had ended, or was in no state for it */                        \
    X(wakes)                      /* ten in a second, while this thread does its work */                      \
    X(stalls)                     /* this thread stood still for 250 ms or more */                            \
    X(reconfigurations)           /* other settings in force */                                              \
    X(memory_given_back)          /* times that free pages were returned after a burst */                     \
    X(hep_sent)                   /* copies of messages to the collector */                                   \
    X(hep_dropped)                /* and those that it has not */                                             \
    X(inputs_unknown)             /* a call took in what its table has no row for in that state: a defect */   \
    X(exceptions)                 /* caught at the edge to pjsip */

enum class Counter : std::size_t {
#define X(name) name,
    SIDECAR_COUNTERS(X)
#undef X
        count_
};

inline constexpr const char* counter_names[] = {
#define X(name) #name,
    SIDECAR_COUNTERS(X)
#undef X
};

// Written by the native thread alone, read by any: relaxed loads and stores are enough.
class Counters {
public:
    void add(Counter c) {
        auto& value = values_[static_cast<std::size_t>(c)];
        value.store(value.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    std::uint64_t get(std::size_t index) const { return values_[index].load(std::memory_order_relaxed); }

private:
    std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(Counter::count_)> values_{};
};

}  // namespace sidecar

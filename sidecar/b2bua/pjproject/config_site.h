/* pjproject's compile-time settings: a signalling-only B2BUA with many short dialogs and no media. */

#define PJ_TODO(x)                                  /* upstream's notes to itself are not our warnings */
#define PJ_ENABLE_EXTRA_CHECK           1           /* bad arguments return PJ_EINVAL, even in a release build */
#define PJ_LOG_MAX_LEVEL                4           /* 5 and 6 trace every pool and lock: cost without use */

/* No media passes through us. What configure cannot switch off is switched off here. */
#define PJMEDIA_HAS_VIDEO               0
#define PJMEDIA_HAS_SRTP                0

/* pjsua's own call layer carries no call (the bridge does, on bare dialogs), and each slot costs about 12.5 kB. */
#define PJSUA_MAX_CALLS                 4
#define PJSUA_MAX_PLAYERS               4
#define PJSUA_MAX_RECORDERS             4
#define PJSUA_MAX_CONF_PORTS            4
#define PJSUA_MAX_ACC                   64          /* one account for each registration at a gateway */

/* The hash tables of the stack, sized for 60 000 calls: two dialogs each, and transactions that live on for 32 s
   (Timers B, F, H, J). pjproject wants 2^n - 1 here; the defaults (1023 and 511) refuse calls silently. */
#define PJSIP_MAX_TSX_COUNT             (262144-1)
#define PJSIP_MAX_DIALOG_COUNT          (131072-1)
#define PJSIP_MAX_TRANSPORTS            1024        /* a TCP or TLS connection of each peer */
#define PJSIP_TCP_TRANSPORT_BACKLOG     1024        /* at 5 a peer waits for seconds while others connect */
#define PJSIP_TLS_TRANSPORT_BACKLOG     1024
#define PJ_IOQUEUE_MAX_HANDLES          16384       /* epoll has no limit of its own; select's 64 would be one */
#define PJSIP_MAX_TIMED_OUT_ENTRIES     100         /* timers per turn: after a stall they must not wait for one another */
#define PJSIP_MAX_NET_EVENTS            10          /* packets per turn, so that timers still fire under load */

/* A UDP message longer than this is cut, not refused, and loses its SDP (default 4000). UDP cannot carry more. */
#define PJSIP_MAX_PKT_LEN               65536
#define PJSIP_UDP_SO_RCVBUF_SIZE        4194304     /* a burst waits in the kernel and is not lost */
#define PJSIP_UDP_SO_SNDBUF_SIZE        4194304

/* PJSIP_DONT_SWITCH_TO_TCP is left alone (0): RFC 3261 §18.1.1 moves a request over 1300 bytes to TCP. */

#define PJSIP_SAFE_MODULE               0           /* our module is never unregistered while messages flow */
#define PJSIP_INV_ACCEPT_UNKNOWN_BODY   PJ_TRUE     /* a body that is not SDP is the other leg's business */

"""The hook: pjsua2 owns endpoint and transports, a native pjsip module joins the two dialogs of each call.
Where things are:

    Python side
      what it is set to         settings     at the start, and anew while calls run
      start, batches, end       hook         pjsua2's endpoint, the event loop's end of both queues
      the border                boundary     events decoded into core.events; both sides declare the same

    native/, from pjsip inwards
      every message             bridge       the gate (who may speak), the table of calls, commands
      a call                    call         its states and what each input does in them: one table
      a leg of it               leg          dialog, INVITE transaction, BYE; caller and callee
      a fork behind a gateway   early_dialogs, one for each To tag, and what the caller has for it
      an in-dialog request      relay        on its way from one leg to the other, and its responses back
      names in the other leg    translation  RAck, Event id, Replaces, Join, Target-Dialog, Refer-To
      is the peer there         liveness     in-dialog OPTIONS
      RFC 4028                  session_timer
      probes and REGISTER       gateway_request
      names and counters        dialog       RFC 3261 §12; digest answers a gateway's challenges
      who may speak in it       remote_party the addresses that the peer has, or names
      messages                  message      which headers pass, held messages, responses; see validity
      what pjsip cannot read    second_reading, stand_in; defects of a message that is heard all the same
      bodies                    body         byte for byte; which of them are an offer or an answer
      who says who speaks       assertions   RFC 3325, both ways; passports: what Identity says
      transactions              transaction  pjsip's, borrowed; sent_by tells two hosts apart
      timers                    deadline; arrival, when a message came; stall, what a late thread does first
      who may speak             peer_table, source_limit, connections, broken_streams
      is there room for it      admission_gate, refused_before
      gateways that are names   gateway_servers
      TLS                       tls_credentials, tls_in_force (renewed while it runs), tls_names
      to Python                 event_queue  event, packed by messagepack as declared says
      from Python               command_queue, command_box; command, read by module
      given to all of them      context      pjsip's handles, settings, counters, events; the bridge's tables

The bridge makes one Context, and all that lives under it holds a reference. The one global is bridge.cpp's
pointer to the bridge, for callbacks in which pjsip does not say whose they are.

Files include one way, those of the rooms below them: tests/b2bua/includes.py has the order, and `make check`
holds them to it.
"""

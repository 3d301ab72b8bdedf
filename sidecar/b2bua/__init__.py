"""The hook: pjsua2 owns endpoint and transports, a native pjsip module bridges the calls."""

//! The SIP user agent: offer/answer, dialogs, session timers, REFER, admission, authentication.

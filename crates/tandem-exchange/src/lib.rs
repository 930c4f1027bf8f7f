//! One task per live call: workers, admission, drain, call records.

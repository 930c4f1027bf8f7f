//! The offline voice model: prompts, turns by voice activity, digits, the same tools.

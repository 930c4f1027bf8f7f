//! Realtime voice models: OpenAI Realtime and Gemini Live.

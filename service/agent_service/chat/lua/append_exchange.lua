-- Adds an exchange to a conversation.
-- KEYS: the conversation
-- ARGV: the new element, maximum number of exchanges, maximum number of tokens, time to live in seconds
return append_exchange(KEYS[1], unpack(ARGV))

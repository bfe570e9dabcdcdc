-- Stands in no line any more, and passes on a turn that has not been taken.
-- KEYS: the resources.  ARGV: who waited, as the channel and the ticket by which it was told.  Returns 1.
for _, key in ipairs(KEYS) do
  quit(key, ARGV[1])
  if said(key) == ARGV[1] and redis.call('PTTL', key) == -2 then
    redis.call('DEL', mark_of(key))
    pass_on(key)
  end
end
return 1

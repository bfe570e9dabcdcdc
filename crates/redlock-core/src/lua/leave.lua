-- Stands in no line any more, and passes on a turn that has not been taken.
-- KEYS: the resources.  ARGV: who waited, as the channel and the ticket by which it was told.  Returns 1.
for _, key in ipairs(KEYS) do
  quit(key, ARGV[1])
  local head = redis.call('LINDEX', key .. ':redlock:line', 0)
  if head and string.match(head, '^%d+ (.+)$') == ARGV[1] and redis.call('PTTL', key) == -2 then
    pass_on(key)
  end
end
return 1

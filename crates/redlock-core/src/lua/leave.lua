-- Stands in no line any more, and passes on a turn that has not been taken.
-- KEYS: the resources.  ARGV: who waited, as the channel and the ticket by which it was told.  Returns 1.
for _, key in ipairs(KEYS) do
  local line = key .. ':redlock:line'
  redis.call('LREM', line, 0, ARGV[1])
  local head = redis.call('LINDEX', line, 0)
  if head and string.match(head, '^%d+ (.+)$') == ARGV[1] and redis.call('PTTL', key) == -2 then
    pass_on(line)
  end
end
return 1

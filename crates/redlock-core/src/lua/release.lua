-- Deletes those keys that carry the value, also when another key is of a wrong type, and then passes the turn on to
-- those that wait for them.
-- KEYS: the resources.  ARGV: value.  Returns twice how many were deleted, and one more if somebody has the turn.
local deleted, turn, failure = {}, 0, nil
for _, key in ipairs(KEYS) do
  local held = redis.pcall('GET', key)
  if held == ARGV[1] then
    redis.call('DEL', key)
    deleted[#deleted + 1] = key
  elseif type(held) == 'table' and held.err then
    failure = held
  end
end
for _, key in ipairs(deleted) do
  turn = math.max(turn, pass_on(key .. ':redlock:line'))
end
return failure or 2 * #deleted + turn

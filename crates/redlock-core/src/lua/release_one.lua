-- Mostly a release is of one key, which carries the value, and nobody waits: that is done before anything else.
-- How many were there, of the key and the mark beside it; no number where the rest has to see to it.
local gone = not KEYS[2] and not ARGV[2] and redis.pcall('GET', KEYS[1]) == ARGV[1]
  and redis.pcall('DEL', KEYS[1], KEYS[1] .. ':redlock:awaited')
if gone == 1 then
  return 4
end

-- Releases many locks of one key each, all by one DEL. What is not simply there is left to a release by itself.
-- KEYS: the keys.  ARGV: the value of the first; "each"; the values of the others.
-- Returns for each what its release returns, or nil if it is not done.
if ARGV[2] == 'each' then
  local answers, gone = {}, {}
  for i, key in ipairs(KEYS) do
    answers[i] = false
    -- A key that stands here twice is deleted once.
    if not gone[key] and redis.pcall('GET', key) == ARGV[i > 1 and i + 1 or 1] then
      answers[i] = 4
      gone[key] = true
      gone[#gone + 1] = key
      gone[#gone + 1] = key .. ':redlock:awaited'
    end
  end
  local count = gone[1] and redis.pcall('DEL', unpack(gone))
  for i, key in ipairs(KEYS) do
    if answers[i] then
      -- What does not permit the marks deletes nothing.
      answers[i] = type(count) == 'number' and 4 + (count > #gone / 2 and pass_on(key) or 0)
    end
  end
  return answers
end

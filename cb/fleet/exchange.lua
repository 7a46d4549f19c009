-- One host's exchange with its fleet about one breaker: what it has counted, against what all have.
--
-- KEYS   circuit  hash: generation, state, until, reason, operator, rounds, streak, terms, terms_version; how many hosts
--                 have traffic, see a bad rate, or are in a streak of failures; length of a slice; slice:0 to slice:9
--        hosts    hash by host: what it reported last
--        seen     sorted set of hosts by when they reported last
--        leases   hash by host: permits of the running round
-- ARGV   the report, as JSON; `Report` in messages.py describes it
-- Returns the circuit as JSON; `View` in messages.py describes it
--
-- Times are milliseconds of this server's clock, the only one that hosts have in common. It decides nothing but what time
-- decides; a host that finds, in what all have counted, a reason to change the state proposes that in its next report.
local circuit, hosts, seen, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local report = cjson.decode(ARGV[1])
local SLICES = 10
local HELD = { FORCED_OPEN = 'OPEN', DISABLED = 'CLOSED', METRICS_ONLY = 'CLOSED' } -- and what follows when they expire

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local stored = redis.call('HMGET', circuit, 'generation', 'state', 'until', 'reason', 'operator', 'rounds')
local generation = tonumber(stored[1] or 0)
local state, ends, reason = stored[2] or 'CLOSED', tonumber(stored[3] or 0), stored[4] or ''
local operator, rounds = tonumber(stored[5] or 0), tonumber(stored[6] or 0)

local function enter(new, duration, why, by_operator)
  if new == 'OPEN' and state == 'HALF_OPEN' then rounds = rounds + 1 end
  if new == 'CLOSED' then
    rounds = 0
    redis.call('HDEL', circuit, 'streak', 'slice')
  end
  generation, state, reason, operator = generation + 1, new, why, by_operator
  ends = duration and now + duration or 0
  redis.call('HSET', circuit, 'generation', generation, 'state', state, 'until', ends, 'reason', reason, 'operator', operator,
    'rounds', rounds, 'traffic', 0, 'bad', 0, 'streaks', 0)
  redis.call('DEL', leases)
  redis.call('PUBLISH', report.channel, report.name)
end

-- A server that was restarted empty, or has lost its latest writes, learns from the host that remembers most.
if report.generation > generation then
  generation, state, rounds = report.generation - 1, report.state, 0
  enter(report.state, report.remaining, report.reason, report.operator)
elseif generation == 0 then
  enter('CLOSED', nil, '', 0)
end

-- What time decides.
if HELD[state] and ends > 0 and now >= ends then
  enter(HELD[state], 0, state .. ' has expired', 0)
end

-- A proposal counts in the generation that it was made in; an operator's counts always.
local change = report.change
if change and (change.operator == 1 or change.generation == generation) then
  enter(change.state, change.duration, change.reason, change.operator)
end
if report.terms then
  local version = math.max(tonumber(redis.call('HGET', circuit, 'terms_version') or 0), report.terms_version) + 1
  redis.call('HSET', circuit, 'terms', report.terms, 'terms_version', version)
  redis.call('PUBLISH', report.channel, report.name)
end

-- Hosts that say no more have no vote.
for _, host in ipairs(redis.call('ZRANGEBYSCORE', seen, 0, now - report.window, 'LIMIT', 0, 10)) do
  local of, _, _, _, traffic, bad, streak = cmsgpack.unpack(redis.call('HGET', hosts, host))
  if of == generation then
    redis.call('HINCRBY', circuit, 'traffic', -traffic)
    redis.call('HINCRBY', circuit, 'bad', -bad)
    redis.call('HINCRBY', circuit, 'streaks', -streak)
  end
  redis.call('HDEL', hosts, host)
  redis.call('ZREM', seen, host)
end

-- What the host has counted since its last report. Totals and not differences are sent, so that one sent twice counts once.
local last = redis.call('HGET', hosts, report.host)
local of, requests, failures, slow, traffic, bad, streak = generation, report.requests - report.new_requests,
  report.failures - report.new_failures, report.slow - report.new_slow, 0, 0, 0
if last then
  of, requests, failures, slow, traffic, bad, streak = cmsgpack.unpack(last)
  if of ~= generation then traffic, bad, streak = 0, 0, 0 end
end
local function since(total, before, at_most) return math.max(0, math.min(total - before, at_most)) end
requests = since(report.requests, requests, report.new_requests)
failures = since(report.failures, failures, report.new_failures)
slow = since(report.slow, slow, report.new_slow)

local length = math.max(1, math.floor(report.window / SLICES))
if tonumber(redis.call('HGET', circuit, 'slice') or 0) ~= length then
  for slice = 0, SLICES - 1 do redis.call('HDEL', circuit, 'slice:' .. slice) end
  redis.call('HSET', circuit, 'slice', length)
end
local number = math.floor(now / length)
local fields = {}
for slice = 0, SLICES - 1 do fields[slice + 1] = 'slice:' .. slice end
local sums, mine = { 0, 0, 0 }, { number, 0, 0, 0 }
for index, packed in ipairs(redis.call('HMGET', circuit, unpack(fields))) do
  if packed then
    local slice = { cmsgpack.unpack(packed) }
    if slice[1] == number then mine = slice end
    if slice[1] > number - SLICES then
      for each = 1, 3 do sums[each] = sums[each] + slice[each + 1] end
    end
  end
end

local votes = report.generation == generation and (state == 'CLOSED' or state == 'METRICS_ONLY')
local length_of_streak = tonumber(redis.call('HGET', circuit, 'streak') or 0)
if votes then
  if requests + failures + slow > 0 then
    mine = { number, mine[2] + requests, mine[3] + failures, mine[4] + slow }
    redis.call('HSET', circuit, fields[number % SLICES + 1], cmsgpack.pack(unpack(mine)))
    sums = { sums[1] + requests, sums[2] + failures, sums[3] + slow }
    -- A success anywhere ends the streak; what this host has counted after its own success begins the next.
    length_of_streak = requests > failures and report.streak or length_of_streak + failures
    redis.call('HSET', circuit, 'streak', length_of_streak)
  end
  redis.call('HINCRBY', circuit, 'traffic', report.traffic - traffic)
  redis.call('HINCRBY', circuit, 'bad', report.bad - bad)
  redis.call('HINCRBY', circuit, 'streaks', math.min(report.streak, 1) - streak)
end
redis.call('HSET', hosts, report.host, cmsgpack.pack(generation, report.requests, report.failures, report.slow,
  votes and report.traffic or 0, votes and report.bad or 0, votes and math.min(report.streak, 1) or 0))
redis.call('ZADD', seen, now, report.host)

-- Probes. A host holds its permits only while it goes on reporting; what it holds when it falls silent has failed.
if state == 'OPEN' and now >= ends and report.wants == 1 then
  enter('HALF_OPEN', report.round, 'time to try again', 0)
end
local taken, succeeded, failed, granted = 0, 0, 0, 0
if state == 'HALF_OPEN' then
  local held = redis.call('HGETALL', leases)
  local permits, good, poor = 0, 0, 0
  for index = 1, #held, 2 do
    local theirs, fine, wrong, silent = cmsgpack.unpack(held[index + 1])
    if held[index] == report.host then
      if report.probes_of == generation and now < silent then fine, wrong = report.succeeded, report.failed end
      permits, good, poor = theirs, fine, wrong
    end
    if now >= silent and fine + wrong < theirs then
      wrong = theirs - fine
      if held[index] == report.host then poor = wrong end
      redis.call('HSET', leases, held[index], cmsgpack.pack(theirs, fine, wrong, silent))
    end
    taken, succeeded, failed = taken + theirs, succeeded + fine, failed + wrong
  end
  if report.wants == 1 and taken < report.permits and now < ends then
    permits, taken = permits + 1, taken + 1
  end
  if permits > 0 then
    local silent = now + report.silence
    if good + poor >= permits then silent = now end -- nothing is out
    redis.call('HSET', leases, report.host, cmsgpack.pack(permits, good, poor, math.max(silent, now)))
  end
  granted = permits
end

for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, report.keep) end

local counts = redis.call('HMGET', circuit, 'traffic', 'bad', 'streaks', 'terms_version')
local version = tonumber(counts[4] or 0)
return cjson.encode({
  generation = generation, state = state, remaining = ends > 0 and ends - now or cjson.null, reason = reason,
  operator = operator, rounds = rounds, requests = sums[1], failures = sums[2], slow = sums[3], streak = length_of_streak,
  traffic = tonumber(counts[1]), bad = tonumber(counts[2]), streaks = tonumber(counts[3]),
  permits = granted, taken = taken, succeeded = succeeded, failed = failed,
  terms_version = version, terms = version > report.terms_version and redis.call('HGET', circuit, 'terms') or cjson.null,
})

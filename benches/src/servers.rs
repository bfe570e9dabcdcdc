//! The servers, and what they were asked.

use redlock_test::server::RedisServer;

/// Where these servers are.
#[must_use]
pub fn urls(servers: &[RedisServer]) -> Vec<String> {
    servers.iter().map(RedisServer::url).collect()
}

/// How many commands clients have sent to these servers, without what only scripts call and what only sets up or
/// measures.
#[must_use]
pub fn commands(servers: &[RedisServer]) -> u64 {
    servers.iter().map(commands_of).sum()
}

fn commands_of(server: &RedisServer) -> u64 {
    const OTHERS: [&str; 18] = [
        "get", "del", "exists", "pttl", "pexpire", "lindex", "lpos", "lpop", "lpush", "rpush",
        "lrem", "publish", "info", "hello", "client", "config", "script", "command",
    ];
    let stats = server.cli(&["INFO", "commandstats"]);
    let counted = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let command = name.split('|').next()?;
        let calls = rest.split(',').next()?.parse::<u64>().ok()?;
        (name == "client|caching" || !OTHERS.contains(&command)).then_some(calls)
    });
    counted.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_counts_once_and_what_it_calls_does_not() {
        let server = RedisServer::start();
        let before = commands_of(&server);
        let release = "redis.call('LPOP', KEYS[1] .. ':line') return redis.call('GET', KEYS[1])";
        let _ = server.cli(&["SET", "a", "b"]);
        let _ = server.cli(&["EVAL", release, "1", "a"]);
        assert_eq!(commands_of(&server) - before, 2);
    }
}

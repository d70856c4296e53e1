-- What every connection of wrk sends: the body of the environment variable BENCH_BODY, as JSON.
wrk.method = "POST"
wrk.body = os.getenv("BENCH_BODY")
wrk.headers["Content-Type"] = "application/json"
for name, value in string.gmatch(os.getenv("BENCH_HEADERS") or "", "([^:\n]+): ([^\n]+)") do
  wrk.headers[name] = value
end

function done(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format("BENCH %d %d %d %f %f %d", summary.requests, summary.duration, summary.errors.status,
    latency:percentile(50), latency:percentile(99), errors))
end

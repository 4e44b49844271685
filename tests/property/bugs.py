"""The bugs that the property test must catch: each is one small mistake that somebody might make."""

from __future__ import annotations

from tests.property.planting import Bug

BUGS = (
    # Graphs.
    Bug("a parent is released one child early", "release.lua", "if done == children and", "if done >= children - 1 and"),
    Bug("a delay is forgotten", "release.lua", "if delay_ms == 0 then", "if true then"),
    Bug(
        "a stage gets its first child's result for every child's",
        "carried.lua",
        "view.fields[field('r', needs[position])] or ''",
        "view.fields[field('r', needs[1])] or ''",
    ),
    Bug(
        "a skipped stage is said to have completed",
        "outcomes.lua",
        "record, SKIPPED, 'skipped'",
        "record, COMPLETED, 'completed'",
    ),
    Bug("the same flow is added twice", "submit.lua", "if known then return", "if false then return"),
    Bug("a flow's beginning is not noticed", "promote.lua", "    view.head[STATUS] = READY\n", ""),
    # Tokens.
    Bug(
        "a late report of an old token is accepted",
        "report.lua",
        "if not record or record[FENCE] ~= fence or record[NONCE] ~= nonce then",
        "if not record then",
    ),
    Bug(
        "a report on a removed flow counts for the one that has its id",
        "report.lua",
        "record[FENCE] ~= fence or record[NONCE] ~= nonce then\n    --",
        "record[FENCE] ~= fence then\n    --",
    ),
    Bug(
        "a stage that was reported stays among those its process runs",
        "outcomes.lua",
        "  left[#left + 1] = stage_at(index, view.id)\n",
        "",
    ),
    Bug("a call that is repeated claims others", "exchange.lua", "if is_replay then\n  claims", "if false then\n  claims"),
    # Claims.
    Bug("the lowest priority goes first", "claim_all.lua", "a.priority > b.priority", "a.priority < b.priority"),
    Bug(
        "the flow's priority counts only for its first stages",
        "ends.lua",
        "  release(view, parents)\n",
        "  local own = view.head[FLOW_PRIORITY]\n  view.head[FLOW_PRIORITY] = 0\n"
        "  release(view, parents)\n  view.head[FLOW_PRIORITY] = own\n",
    ),
    Bug(
        "the flow's priority is ignored",
        "lanes.lua",
        "local lane = lane_of(route, priority + PRIORITY_STEP * view.head[FLOW_PRIORITY]",
        "local lane = lane_of(route, priority",
    ),
    Bug("who came last is served first", "lanes.lua", "shared('RPUSH', lane.key", "shared('LPUSH', lane.key"),
    Bug(
        "one lane keeps others of its priority waiting",
        "claim_turns.lua",
        "math.max(1, math.floor(capacity / unfinished))",
        "capacity",
    ),
    Bug(
        "flows that have begun are not finished first",
        "flowq.store.wire:later_priority",
        "2 if finish_first",
        "1 if finish_first",
    ),
    Bug(
        "flows that have begun wait for those that have not",
        "claim_turns.lua",
        "local part = part_of(capacity)",
        "local part = capacity",
    ),
    Bug(
        "several suspects are claimed at once",
        "claim_kind.lua",
        "claim_kind(served, wants, SUSPECTS, 1, holder, nonce, are_there)",
        "claim_kind(served, wants, SUSPECTS, capacity, holder, nonce, are_there)",
    ),
    # Failure.
    Bug(
        "a stage gets one attempt more",
        "flowq.engine.run.policy:after_error",
        "claim.attempt < stage.attempts",
        "claim.attempt <= stage.attempts",
    ),
    Bug("`come back later` uses up an attempt", "outcomes.lua", "if keeps_attempt then", "if false then"),
    Bug("giving a stage back uses up an attempt", "outcomes.lua", "  record[ATTEMPT] = record[ATTEMPT] - 1\n", ""),
    Bug("a failure ends no flow at once", "ends.lua", "if closes > 0 and is_open(view) then", "if false then"),
    Bug("a failure that is tolerated fails the flow", "ends.lua", "if is_tolerated then", "if false then"),
    Bug("who tolerates a failure is not released by it", "ends.lua", "  release(view, tolerant)\n", ""),
    Bug("a failure that one of two bears is borne", "flowq.model.plan:tolerated", "all(users) if by_all", "any(users) if by_all"),
    # Crashes.
    Bug("a crash is not counted", "rescue.lua", "record[CRASHES] = record[CRASHES] + 1", "record[CRASHES] = record[CRASHES]"),
    Bug("a crash uses up an attempt", "rescue.lua", "  record[ATTEMPT] = record[ATTEMPT] - 1\n", ""),
    Bug(
        "a suspect runs beside others after a crash",
        "rescue.lua",
        "record[ROUTE] = record[ROUTE] .. '!'",
        "record[ROUTE] = record[ROUTE]",
    ),
    Bug(
        "everybody in a crashed process is charged with it",
        "flowq.store.store:Store.is_alone",
        "sum(counts) == 1",
        "sum(counts) >= 1",
    ),
    Bug(
        "what a dead process ran is lost",
        "rescue.lua",
        "  push(view, record[ROUTE], record[PRIORITY], index .. ':' .. view.id)\n",
        "",
    ),
    # Cancelling, time, pausing.
    Bug(
        "cancelling forgets what waits for a time",
        "stop.lua",
        "    shared('ZREM', tag .. DUE_KEY, index .. ':' .. view.id)\n",
        "",
    ),
    Bug("who runs a cancelled stage is not told", "stop.lua", "    redis.call('HSET', key, 'told', cmsgpack.pack(all))\n", ""),
    Bug(
        "a cancelled flow's stages are claimed",
        "item_claims.lua",
        "if not view or not is_open(view) then return end",
        "if not view then return end",
    ),
    Bug(
        "a deadline ends nothing",
        "promote.lua",
        "    view.head[STATUS], view.head[REASON], view.is_changed = FAILING, OUT_OF_TIME, true\n",
        "",
    ),
    Bug("a paused flow's stages are claimed", "claim.lua", "local what = is_wanted and held_by(view)", "local what = false"),
    Bug("a paused queue's stages are claimed", "paused.lua", "return paused.queue and paused", "return false and paused"),
    Bug("what was put aside in a pause stays there", "resume.lua", "local _, has_more = let_go(what)", "local has_more = false"),
    # Retry by hand.
    Bug(
        "a retry forgets the consequences",
        "flowq.model.restart:restart",
        '            pending += (p for p in plan.stages[index].parents if not plan.stages[p].hook or states[p] != "completed")\n',
        "",
    ),
    Bug(
        "a retry forgets to count anew",
        "retry.lua",
        "head[UNFINISHED], head[FAILURES], head[DEADLINE_AT] = 0, unfinished, failures, 0",
        "head[DEADLINE_AT] = 0, 0",
    ),
    Bug("a stage that runs again keeps its old result", "restart.lua", "    drop_traces(view, index)\n", ""),
    Bug("a retried flow still expires", "retry.lua", "redis.call('PERSIST', view.key)\n", ""),
    # Maps.
    Bug(
        "all items of a map run at once",
        "groups.lua",
        "hand_out(view, map, group[CAP] > 0 and group[CAP] or group[COUNT])",
        "hand_out(view, map, group[COUNT])",
    ),
    Bug("a map needs all its items", "map_ends.lua", "if group[DONE] < group[NEED] then", "if group[DONE] < group[COUNT] then"),
    Bug("a bounded map stops after its first items", "map_ends.lua", "    hand_out_next(view, map)\n", ""),
    Bug("items of a map that has ended run on", "map_ends.lua", "if has_left(group) then", "if false then"),
    # Waiting.
    Bug("a sleep uses up an attempt", "resumed.lua", "  record[ATTEMPT] = record[ATTEMPT] - 1\n", ""),
    Bug("who has waited waits for its turn again", "resumed.lua", "  push_first(view,", "  push(view,"),
    Bug(
        "a stage that waits for a time is not woken", "promote.lua", "    resume(view, index, record, 'its time has come')\n", ""
    ),
    Bug(
        "a signal that came first is forgotten",
        "suspend.lua",
        "if read(view, 's:' .. name) then is_there = true else",
        "if true then",
    ),
    Bug("a signal wakes nobody", "signal.lua", "record[STATE] == SUSPENDED then", "false then"),
    Bug("the second signal takes the place of the first", "signal.lua", "if known then return {'differs'} end\n", ""),
    # Spawned flows.
    Bug("a spawned flow is made twice", "spawn.lua", "link[2] == root.head[CREATED_AT] and link or nil", "nil"),
    Bug(
        "a spawned flow lives beside those that were added",
        "submit.lua",
        "if root then put_beneath",
        "if root then list_flow(id, plan, labels, keep) put_beneath",
    ),
    Bug("a spawned flow's end does not wake its parent", "flow_ends.lua", "      wake_parent(view)\n", ""),
    Bug(
        "cancelling a flow does not reach what it spawned",
        "cancel.lua",
        "looked_at, closed = close_beneath(view, from, string.sub('the flow above ' .. why, 1, 200))",
        "looked_at = 0",
    ),
    Bug("what a flow spawned outlives it", "ended.lua", "      if is_noted then", "      if false then"),
    Bug(
        "nobody closes what was spawned",
        "orphans.lua",
        "if has_ended(view) then return true end",
        "if has_ended(view) then return false end",
    ),
    Bug("a spawned flow expires before its parent", "ended.lua", "  if parent_of(view.id) then return end\n", ""),
    # The end.
    Bug("an ended flow stays among those that live", "flush.lua", "if #ended > 0 then", "if false then"),
    Bug(
        "an ended flow never expires",
        "ended.lua",
        "  redis.call('PEXPIRE', view.key, kept_ms + retention_ms.by_itself)\n",
        "",
    ),
    Bug("a flow ends while stages are under way", "ended.lua", "head[ACTIVE] > 0 or not", "head[ACTIVE] > 1 or not"),
    Bug(
        "flows that go on are pruned",
        "prune.lua",
        "return has_ended(view) and view.head[ENDED_AT] < before end",
        "return true end",
    ),
    Bug("a pruned flow is still found", "labels.lua", "    unlabel_from(key, id)\n", ""),
    Bug("plans of pruned flows stay", "prune.lua", "    redis.call('UNLINK', plan_key)\n", ""),
    Bug("routes of flows that a stage removed stay", "spawn.lua", "    forget_routes(plan)\n", ""),
)

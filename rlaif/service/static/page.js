"use strict";
const meta = document.querySelector('meta[name="code"]');
const headers = { "x-rlaif-code": meta ? meta.content : "" };
const message = document.querySelector(".message");

async function send(path, body, kind) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { ...headers, "content-type": kind || "application/json" },
    body,
  });
  if (answer.status === 401) throw new Error("You are signed out: open this page anew to sign in.");
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail);
  return told;
}

function attempt(work) {
  message.textContent = "";
  return work().catch((error) => {
    message.textContent = error.message;
  });
}

function text(run) {
  const of = run.total === null ? "" : " of " + run.total.toLocaleString("en");
  return {
    state: run.state,
    done: run.done.toLocaleString("en") + of,
    coverage: run.done ? (100 * run.coverage).toFixed(1) + "%" : "–",
    cost: "$" + run.cost_usd.toFixed(4),
  };
}

const form = document.querySelector("form.new-run");
if (form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      const given = new FormData(form);
      const file = given.get("file");
      const known = ["jsonl", "json", "csv", "tsv", "parquet"];
      const parts = file.name.toLowerCase().split(".");
      const packed = parts.at(-1) === "gz" ? parts.slice(-2) : parts.slice(-1);
      const format = known.includes(packed[0]) ? packed.join(".") : "jsonl";
      const kept = await send("/v1/uploads?format=" + format, file, "application/octet-stream");
      const body = { kind: given.get("kind"), data: { upload: kept.upload } };
      body.title = given.get("title") || file.name;
      if (body.kind !== "verdicts") {
        body.judge = given.get("judge");
        if (given.get("rubric")) body.rubric = given.get("rubric");
        if (given.get("budget")) body.budget_usd = Number(given.get("budget"));
      }
      const run = await send("/v1/runs", JSON.stringify(body));
      location.assign("/runs/" + run.id);
    });
  });
}

const run = document.querySelector("[data-run]");
if (run) {
  for (const button of document.querySelectorAll("button[data-do]")) {
    button.addEventListener("click", () =>
      attempt(async () => {
        await send("/v1/runs/" + run.dataset.run + "/" + button.dataset.do, "{}");
        location.reload();
      }),
    );
  }
  if (run.dataset.live) {
    const events = new EventSource("/v1/runs/" + run.dataset.run + "/events");
    const bar = document.querySelector("progress");
    events.addEventListener("progress", (event) => {
      const now = JSON.parse(event.data);
      for (const [name, value] of Object.entries(text(now))) {
        const place = document.querySelector(`[data-live="${name}"]`);
        if (place) place.textContent = value;
      }
      if (bar && now.total) {
        bar.max = now.total;
        bar.value = now.done;
      }
    });
    events.addEventListener("end", () => {
      events.close();
      location.reload();
    });
  }
}

const task = document.querySelector("[data-label]");
const criteria = task ? [...task.querySelectorAll("fieldset[data-criterion]")] : [];

function grade(criterion) {
  const typed = criterion.querySelector('input[type="number"]');
  const given = typed ? typed.value : criterion.querySelector("input:checked")?.value;
  return given === undefined || given === "" ? null : Number(given);
}

function ungraded() {
  return criteria.find((criterion) => grade(criterion) === null);
}

function showCurrent(criterion) {
  for (const one of criteria) one.classList.toggle("current", one === criterion);
}

if (task) {
  const path = "/v1/runs/" + task.dataset.label + "/labels";
  let busy = false;
  const act = (work) => {
    if (busy) return;
    busy = true;
    attempt(async () => {
      try {
        await work();
      } catch (error) {
        busy = false;
        throw error;
      }
      location.reload(); // busy until it is gone: a key for the next item would change this one
    });
  };
  const put = (said) => {
    const reason = task.querySelector('input[name="reason"]').value;
    const body = { n: Number(task.dataset.n), ...said, reason };
    act(() => send(path, JSON.stringify(body)));
  };
  for (const button of task.querySelectorAll("button[data-choice]")) {
    button.addEventListener("click", () => put({ choice: button.dataset.choice }));
  }
  task.querySelector("[data-undo]").addEventListener("click", () => act(() => send(path + "/undo", "{}")));
  const save = task.querySelector("[data-save]");
  if (save) {
    save.addEventListener("click", () => {
      const left = ungraded();
      if (left) {
        message.textContent = "Give every criterion a grade first.";
        showCurrent(left);
        left.querySelector("input").focus();
        return;
      }
      put({ grades: Object.fromEntries(criteria.map((one) => [one.dataset.criterion, grade(one)])) });
    });
    if (criteria.length > 1) showCurrent(criteria[0]);
  }
}

function level(key) {
  const held = document.activeElement?.closest("fieldset[data-criterion]");
  const current = held || ungraded() || criteria.at(-1);
  const chosen = current?.querySelector(`input[data-level="${CSS.escape(key)}"]`);
  if (!chosen) return false;
  chosen.checked = true;
  if (criteria.length === 1) {
    task.querySelector("[data-save]").click();
    return true;
  }
  const next = ungraded() || current;
  showCurrent(next);
  if (held) (next.querySelector("input:checked") || next.querySelector("input")).focus();
  next.scrollIntoView({ block: "nearest" });
  return true;
}

const campaign = document.querySelector("form.campaign");
if (campaign) {
  campaign.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      const given = new FormData(campaign);
      const body = {};
      for (const name of ["overlap", "gold_every"]) {
        if (given.get(name)) body[name] = Number(given.get(name));
      }
      await send("/v1/runs/" + campaign.dataset.runId + "/labelling", JSON.stringify(body));
      location.reload();
    });
  });
}

const bring = document.querySelector("form.bring");
if (bring) {
  bring.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      const file = new FormData(bring).get("file");
      const ending = file.name.toLowerCase().split(".").at(-1);
      const format = { csv: "csv", tsv: "tsv", json: "argilla" }[ending] || "jsonl";
      const path = "/v1/runs/" + bring.dataset.runId + "/labels/import?format=" + format;
      const told = await send(path, file, "application/octet-stream");
      message.textContent = told.kept + " labels kept, " + told.same + " were there already.";
    });
  });
}

const waits = document.querySelector("[data-waits]");
if (waits) setTimeout(() => location.reload(), 1000 * waits.dataset.waits);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest('input:not([type="radio"]), select, textarea');
  if (field) {
    if (event.key === "Escape") field.blur();
    return;
  }
  if (event.key === "Enter" && event.target.closest("button, a, summary")) return;
  if (event.key === "/") {
    const search = document.querySelector('input[name="q"]');
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
  if (/^\d$/.test(event.key) && criteria.length && level(event.key)) return;
  const press = document.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
  if (press) press.click();
  if (event.target.closest('input[type="radio"]')) return;
  const wanted = { j: "next", k: "prev", ArrowRight: "next", ArrowLeft: "prev" }[event.key];
  const link = wanted && document.querySelector(`a[rel="${wanted}"]`);
  if (link) link.click();
});

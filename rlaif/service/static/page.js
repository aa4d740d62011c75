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
    coverage: (100 * run.coverage).toFixed(1) + "%",
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
      const body = { kind: given.get("kind"), judge: given.get("judge"), data: { upload: kept.upload } };
      body.title = given.get("title") || file.name;
      if (given.get("rubric")) body.rubric = given.get("rubric");
      if (given.get("budget")) body.budget_usd = Number(given.get("budget"));
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
if (task) {
  const path = "/v1/runs/" + task.dataset.label + "/labels";
  let busy = false;
  const act = (work) => {
    if (busy) return;
    busy = true;
    attempt(async () => {
      await work();
      location.reload();
    }).finally(() => {
      busy = false;
    });
  };
  for (const button of task.querySelectorAll("button[data-choice]")) {
    button.addEventListener("click", () => {
      const reason = task.querySelector('input[name="reason"]').value;
      const body = { n: Number(task.dataset.n), choice: button.dataset.choice, reason };
      act(() => send(path, JSON.stringify(body)));
    });
  }
  task.querySelector("[data-undo]").addEventListener("click", () => act(() => send(path + "/undo", "{}")));
}

if (document.querySelector("[data-waits]")) setTimeout(() => location.reload(), 1500);

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey) return;
  if (event.key === "/") {
    const search = document.querySelector('input[name="q"]');
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
  const press = document.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
  if (press) press.click();
  const wanted = { j: "next", k: "prev", ArrowRight: "next", ArrowLeft: "prev" }[event.key];
  const link = wanted && document.querySelector(`a[rel="${wanted}"]`);
  if (link) link.click();
});

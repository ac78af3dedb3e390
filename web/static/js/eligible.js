// Why no worker can run a job now, in the words of service/scheduling/eligible.py: how workers are is known here.

const GIB = 2 ** 30;

/** The reason, null when a worker can run it, be it busy. `needs` maps model ids to bytes of device memory. */
export function whyNobody({ task, model }, workers, needs) {
  const here = workers.filter(({ lost }) => lost === null);
  const needed = needs.get(model) ?? 0;
  const hasMemory = ({ device }) => !device.memory_bytes || device.memory_bytes >= needed;
  const able = here.filter((worker) => worker.models[task]?.includes(model) && hasMemory(worker));
  if (able.some(({ quarantine }) => quarantine === null)) return null;
  if (here.length === 0) return "no worker is connected; start one with `safelight worker`";
  if (able.length) return "every worker that has it is quarantined; look at them, then release one";
  const ofTask = here.filter(({ models }) => models[task]?.length);
  if (ofTask.length === 0) return `no worker can run task ${task}; start one that can`;
  const withModel = ofTask.filter(({ models }) => models[task].includes(model));
  if (withModel.length === 0)
    return `no worker has model ${model}; install it on one, or edit the job to use another`;
  const most = Math.max(...withModel.map(({ device }) => device.memory_bytes));
  return (
    `model ${model} needs ${(needed / GIB).toFixed(1)} GiB of device memory and the ` +
    `largest worker that has it has ${(most / GIB).toFixed(1)}; use a smaller model or a larger device`
  );
}

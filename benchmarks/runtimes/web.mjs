// onnxruntime-web's wasm backend at work in node; see jobs.py for what travels through the files:
//     node web.mjs ORT_MODULE LEVEL JOBS ANSWERS FOLDER

import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const LONGEST_REASON = 300;
const ARRAYS = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, bool: Uint8Array, uint8: Uint8Array,
  int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array,
  uint64: BigUint64Array, int64: BigInt64Array,
};

const [modulePath, level, jobsPath, answersPath, folder] = process.argv.slice(2);
const { default: ort } = await import(pathToFileURL(modulePath).href);
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "fatal";

// NumPy's names, which the files use, are onnxruntime-web's but for truth values.
function fed({ dtype, shape, file }) {
  const bytes = readFileSync(file);
  const elements = new ARRAYS[dtype](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  return new ort.Tensor(dtype, elements, shape);
}

function held(name, tensor, file) {
  const { buffer, byteOffset, byteLength } = tensor.data;
  writeFileSync(file, new Uint8Array(buffer, byteOffset, byteLength));
  return { name, dtype: tensor.type, shape: tensor.dims, file };
}

async function run(job, number) {
  const options = { executionProviders: ["wasm"], graphOptimizationLevel: level };
  const session = await ort.InferenceSession.create(readFileSync(job.model), options);
  const feeds = Object.fromEntries(job.inputs.map((input) => [input.name, fed(input)]));
  const found = await session.run(feeds);
  const outputs = job.outputs.map((name, i) => held(name, found[name], join(folder, `${number}.${i}.bin`)));
  await session.release();
  return outputs;
}

for (const [number, job] of JSON.parse(readFileSync(jobsPath, "utf8")).entries()) {
  let answer;
  try {
    answer = { outputs: await run(job, number), refused: null };
  } catch (error) {
    const reason = `${error?.message ?? error}`.split(/\s+/).join(" ").slice(0, LONGEST_REASON);
    answer = { outputs: [], refused: reason };
  }
  appendFileSync(answersPath, JSON.stringify({ job: job.name, ...answer }) + "\n");
}

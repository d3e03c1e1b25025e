// Runs models in onnxruntime-web's WebAssembly build, without a browser: the other side of web.py, which starts it as
//   node web.cjs FOLDER ANSWERS
// FOLDER is where onnxruntime-web is looked for, ANSWERS the number of an open file. A line of JSON on stdin is a
// question, and each gets a line of JSON there: {open: {...}} or {run: {...}}, see `open` and `run`; {error} where it
// fails. Tensors are files of raw little-endian values, strings a JSON list. Ends when stdin does.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const readline = require('node:readline');
const { createRequire } = require('node:module');

const [folder, answers] = process.argv.slice(2);
const ort = createRequire(path.join(folder, 'web.cjs'))('onnxruntime-web');
const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: globalThis.Float16Array ?? Uint16Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
};
let session;

// {model, data: [{path, data}], options}: a session, which later runs use.
async function open({ model, data, options }) {
  ort.env.wasm.numThreads = 1; // more would need workers, and give other sums in another order
  ort.env.logLevel = 'fatal'; // errors come as exceptions
  const settings = { executionProviders: ['wasm'], logSeverityLevel: 4, ...options };
  session = await ort.InferenceSession.create(model, data.length ? { ...settings, externalData: data } : settings);
  return { inputs: session.inputNames, node: process.version, web: ort.env.versions.web };
}

// {feeds: [{name, type, dims, file}], outputs, folder}: the outputs, written into files of `folder`, and nanoseconds.
async function run({ feeds, outputs, folder: into }) {
  const given = Object.fromEntries(feeds.map((feed) => [feed.name, read(feed)]));
  const begun = process.hrtime.bigint();
  const results = await session.run(given, outputs);
  const took = Number(process.hrtime.bigint() - begun);
  return { outputs: outputs.map((name, at) => written(name, results[name], path.join(into, `out${at}`))), took };
}

function read({ type, dims, file }) {
  const bytes = fs.readFileSync(file);
  if (type === 'string') return new ort.Tensor('string', JSON.parse(bytes.toString('utf8')), dims);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength); // at an even address
  return new ort.Tensor(type, new ARRAYS[type](buffer), dims);
}

function written(name, tensor, file) {
  if (!(tensor instanceof ort.Tensor)) return { name, type: typeof tensor };
  const { type, dims, data } = tensor;
  const bytes = type === 'string' ? JSON.stringify(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  fs.writeFileSync(file, bytes);
  tensor.dispose();
  return { name, type, dims, file };
}

async function answer(line) {
  const question = JSON.parse(line);
  try {
    return question.open ? await open(question.open) : await run(question.run);
  } catch (error) {
    return { error: String(error?.message ?? error) };
  }
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    fs.writeSync(Number(answers), `${JSON.stringify(await answer(line))}\n`);
  }
  process.exit(0);
})();

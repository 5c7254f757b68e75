// Runs the original TF.js graph with the original runtime (@tensorflow/tfjs, pure JS, CPU backend) on one photo and
// writes each named node as raw little-endian float32. Called by convert_ssdlite.py; its docstring lists the commands.
//
//   node record_ssdlite_reference.cjs JOB.json
//
// JOB.json: {tfjs, model, weights, photo, height, width, out, nodes: [[node name, file name], ...]}
//   tfjs: folder node_modules/@tensorflow/tfjs · model: model.json · weights: its shards in one file ·
//   photo: raw RGB bytes, height x width x 3 · out: folder for the files.
const fs = require('fs');
const path = require('path');

async function main() {
  const job = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
  const tf = require(path.resolve(job.tfjs));
  await tf.setBackend('cpu');
  await tf.ready();

  const { modelTopology, weightsManifest } = JSON.parse(fs.readFileSync(job.model, 'utf8'));
  const bytes = fs.readFileSync(job.weights);
  const weightData = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const weightSpecs = weightsManifest.flatMap((group) => group.weights);
  const model = await tf.loadGraphModel({ load: async () => ({ modelTopology, weightSpecs, weightData }) });

  const pixels = Int32Array.from(fs.readFileSync(job.photo));
  const photo = tf.tensor4d(pixels, [1, job.height, job.width, 3], 'int32');
  const outputs = await model.executeAsync({ image_tensor: photo }, job.nodes.map(([node]) => node));
  const shapes = {};
  for (let i = 0; i < job.nodes.length; i++) {
    const [, file] = job.nodes[i];
    const values = await outputs[i].data();
    fs.writeFileSync(path.join(job.out, file), Buffer.from(Float32Array.from(values).buffer));
    shapes[file] = outputs[i].shape;
  }
  process.stdout.write(JSON.stringify({ tfjs: tf.version.tfjs, backend: tf.getBackend(), shapes }) + '\n');
}

main().catch((error) => {
  process.stderr.write(String(error.stack || error) + '\n');
  process.exit(1);
});

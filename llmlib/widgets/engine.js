// The book's model in JavaScript: the forward pass of llmlib.model with a cache of keys and values, in plain typed arrays.
//
// Letters for sizes: C width, H query heads, K heads of keys and values, D width of a head, F feed-forward width, L layers,
// V vocabulary, T tokens read now, S positions attended to. A matrix (R, C) is stored row by row, as torch has it.

/**
 * All of it. The function refers to nothing outside itself, because its text is also the text of a worker: see runtime.js.
 *   const { readTensors, Llama } = pageEngine();
 *   const model = new Llama(config, readTensors(bytes));    // config.json and model.safetensors of the hub's layout
 *   model.logits([5, 7, 9]);                                 // of what follows: Float32Array(V)
 */
export function pageEngine() {
  const CHUNK = 32; // tokens read at once: a few rows of weights stay near the processor while all of them use it

  // ------------------------------------------------------------------------------------------------ weights

  /** The 16 bits of a half-precision number -> the number: sign, 5 bits of exponent, 10 of fraction. */
  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
    return sign * (1024 + fraction) * 2 ** (exponent - 25);
  }

  /** `count` numbers from byte `start` on, as 32-bit floats: exactly what 16 bits (F16, BF16) or 32 (F32) hold. */
  function floats(bytes, start, count, dtype) {
    const width = { F16: 2, BF16: 2, F32: 4 }[dtype];
    if (width === undefined) throw new Error(`The weights are stored as ${dtype}; F32, F16 and BF16 can be read.`);
    const part = bytes.slice(start, start + width * count); // a copy of its own, so that it begins at a whole number
    if (dtype === "F32") return new Float32Array(part.buffer);
    const raw = new Uint16Array(part.buffer);
    if (dtype === "BF16") return new Float32Array(Uint32Array.from(raw, (bits) => bits << 16).buffer);
    const table = floats.table ?? (floats.table = Float32Array.from({ length: 1 << 16 }, (_, bits) => half(bits)));
    const out = new Float32Array(count);
    for (let i = 0; i < count; i += 1) out[i] = table[raw[i]];
    return out;
  }

  /** The bytes of a safetensors file -> Map from a tensor's name to {shape, data}. */
  function readTensors(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const size = view.getUint32(0, true); // a header of 4 GiB is none
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + size)));
    const found = new Map();
    for (const [name, entry] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      const count = entry.shape.reduce((product, n) => product * n, 1);
      found.set(name.replace(/^(?=embed_tokens\.|layers\.|norm\.)/, "model."), { shape: entry.shape, data: floats(bytes, 8 + size + entry.data_offsets[0], count, entry.dtype) });
    }
    return found;
  }

  // --------------------------------------------------------------------------------------------- operations

  /** out (T, R) = x (T, C) times the transpose of W (R, C); with `add`, added to what is in `out`. */
  function multiply(out, W, x, T, R, C, add = false) {
    const whole = R - (R % 4);
    for (let r = 0; r < whole; r += 4) {
      const a0 = r * C, b0 = a0 + C, c0 = b0 + C, d0 = c0 + C;
      for (let t = 0; t < T; t += 1) {
        let a = 0, b = 0, c = 0, d = 0; // four sums at once; JavaScript adds in double precision
        for (let i = 0, at = t * C; i < C; i += 1) {
          const value = x[at + i];
          a += W[a0 + i] * value;
          b += W[b0 + i] * value;
          c += W[c0 + i] * value;
          d += W[d0 + i] * value;
        }
        const to = t * R + r;
        out[to] = add ? out[to] + a : a;
        out[to + 1] = add ? out[to + 1] + b : b;
        out[to + 2] = add ? out[to + 2] + c : c;
        out[to + 3] = add ? out[to + 3] + d : d;
      }
    }
    for (let r = whole; r < R; r += 1) {
      for (let t = 0; t < T; t += 1) {
        let sum = 0;
        for (let i = 0; i < C; i += 1) sum += W[r * C + i] * x[t * C + i];
        out[t * R + r] = add ? out[t * R + r] + sum : sum;
      }
    }
  }

  /** Each row of x (T, C), divided by its root mean square and scaled: RMSNorm. */
  function normalise(out, x, scale, T, C, epsilon) {
    for (let t = 0; t < T; t += 1) {
      let squares = 0;
      for (let i = t * C; i < (t + 1) * C; i += 1) squares += x[i] * x[i];
      const r = 1 / Math.sqrt(squares / C + epsilon);
      for (let i = 0; i < C; i += 1) out[t * C + i] = x[t * C + i] * r * scale[i];
    }
  }

  const length = (x) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));

  // -------------------------------------------------------------------------------------------------- model

  class Llama {
    constructor(config, tensors) {
      const { num_hidden_layers: L, hidden_size: C, num_attention_heads: H, intermediate_size: F, vocab_size: V } = config;
      const [K, D] = [config.num_key_value_heads ?? H, config.head_dim ?? C / H];
      const context = config.max_position_embeddings;
      Object.assign(this, { L, C, H, K, D, F, V, context, epsilon: config.rms_norm_eps ?? 1e-6, ids: [] });
      const take = (name, ...shape) => {
        const tensor = tensors.get(name);
        if (tensor === undefined || String(tensor.shape) !== String(shape)) throw new Error(`The weights hold ${name} as (${tensor?.shape ?? "nothing"}); the model needs (${shape}).`);
        return tensor.data;
      };
      this.embedding = take("model.embed_tokens.weight", V, C);
      this.head = config.tie_word_embeddings ? this.embedding : take("lm_head.weight", V, C);
      this.norm = take("model.norm.weight", C);
      this.layers = Array.from({ length: L }, (_, n) => {
        const of = (name, ...shape) => take(`model.layers.${n}.${name}.weight`, ...shape);
        return {
          attentionNorm: of("input_layernorm", C), q: of("self_attn.q_proj", H * D, C), k: of("self_attn.k_proj", K * D, C),
          v: of("self_attn.v_proj", K * D, C), o: of("self_attn.o_proj", C, H * D), feedForwardNorm: of("post_attention_layernorm", C),
          gate: of("mlp.gate_proj", F, C), up: of("mlp.up_proj", F, C), down: of("mlp.down_proj", C, F),
          keys: new Float32Array(context * K * D), values: new Float32Array(context * K * D), // the cache, position by position
        };
      });
      const base = config.rope_parameters?.rope_theta ?? config.rope_theta ?? 10000;
      const angle = (i) => Math.floor(i / (D / 2)) * base ** ((-2 * (i % (D / 2))) / D); // pair i turns by base^(-2i/D) a position
      this.cos = Float32Array.from({ length: (context * D) / 2 }, (_, i) => Math.cos(angle(i)));
      this.sin = Float32Array.from({ length: (context * D) / 2 }, (_, i) => Math.sin(angle(i)));
      const room = (width) => new Float32Array(CHUNK * width);
      Object.assign(this, { x: room(C), normed: room(C), query: room(H * D), key: room(K * D), value: room(K * D), mixed: room(H * D), gated: room(F), raised: room(F) });
      this.scores = new Float32Array(context);
    }

    /** Turns the pairs (i, i + D/2) of `heads` heads of one position: RoPE. */
    rotate(x, at, heads, position) {
      const { D, cos, sin } = this;
      for (let h = 0; h < heads; h += 1) {
        for (let i = 0; i < D / 2; i += 1) {
          const first = at + h * D + i;
          const [a, b, c, s] = [x[first], x[first + D / 2], cos[(position * D) / 2 + i], sin[(position * D) / 2 + i]];
          x[first] = a * c - b * s;
          x[first + D / 2] = b * c + a * s;
        }
      }
    }

    /** softmax(q k / sqrt(D)) v of one position, over itself and all before it; `weights` receives (H, S), if given. */
    attend(layer, t, position, weights) {
      const { H, K, D, query, mixed, scores } = this;
      const S = position + 1;
      for (let h = 0; h < H; h += 1) {
        const [q0, group] = [(t * H + h) * D, Math.floor((h * K) / H) * D]; // H / K query heads share a head of keys
        let most = -Infinity;
        for (let s = 0; s < S; s += 1) {
          let sum = 0;
          for (let i = 0, at = s * K * D + group; i < D; i += 1) sum += query[q0 + i] * layer.keys[at + i];
          scores[s] = sum / Math.sqrt(D);
          if (scores[s] > most) most = scores[s];
        }
        let total = 0;
        for (let s = 0; s < S; s += 1) total += scores[s] = Math.exp(scores[s] - most);
        mixed.fill(0, q0, q0 + D);
        for (let s = 0; s < S; s += 1) {
          const weight = scores[s] / total;
          if (weights) weights[h * S + s] = weight;
          for (let i = 0, at = s * K * D + group; i < D; i += 1) mixed[q0 + i] += weight * layer.values[at + i];
        }
      }
    }

    /** Reads T tokens, at most CHUNK, that follow the `start` positions in the cache; `trace` receives what the last one met. */
    read(ids, start, trace = null) {
      const { C, H, K, D, F, epsilon, x, normed, query, key, value, mixed, gated, raised } = this;
      const T = ids.length;
      const last = (array, width) => array.slice((T - 1) * width, T * width);
      ids.forEach((id, t) => x.set(this.embedding.subarray(id * C, (id + 1) * C), t * C));
      if (trace) Object.assign(trace, { embedding: last(x, C), layers: [] });
      for (const layer of this.layers) {
        const before = trace ? last(x, C) : null;
        normalise(normed, x, layer.attentionNorm, T, C, epsilon);
        multiply(query, layer.q, normed, T, H * D, C);
        multiply(key, layer.k, normed, T, K * D, C);
        multiply(value, layer.v, normed, T, K * D, C);
        const weights = trace ? new Float32Array(H * (start + T)) : null;
        for (let t = 0; t < T; t += 1) {
          this.rotate(query, t * H * D, H, start + t);
          this.rotate(key, t * K * D, K, start + t);
        }
        layer.keys.set(key.subarray(0, T * K * D), start * K * D);
        layer.values.set(value.subarray(0, T * K * D), start * K * D);
        for (let t = 0; t < T; t += 1) this.attend(layer, t, start + t, t === T - 1 ? weights : null);
        multiply(x, layer.o, mixed, T, C, H * D, true);
        const between = trace ? last(x, C) : null;
        normalise(normed, x, layer.feedForwardNorm, T, C, epsilon);
        multiply(gated, layer.gate, normed, T, F, C);
        multiply(raised, layer.up, normed, T, F, C);
        for (let i = 0; i < T * F; i += 1) gated[i] = (gated[i] / (1 + Math.exp(-gated[i]))) * raised[i];
        multiply(x, layer.down, gated, T, C, F, true);
        if (!trace) continue;
        const after = last(x, C);
        const [attentionAdds, feedForwardAdds] = [between.map((v, i) => v - before[i]), after.map((v, i) => v - between[i])];
        trace.layers.push({
          attention: Array.from({ length: H }, (_, h) => weights.slice(h * (start + T), (h + 1) * (start + T))),
          query: last(query, H * D), key: last(key, K * D), value: last(value, K * D), activation: last(gated, F), stream: after,
          attentionAdds, feedForwardAdds, attended: length(attentionAdds), fed: length(feedForwardAdds),
          logits: this.output(T - 1),
        });
      }
    }

    /** The logits after place t of what was read last. Only where they are wanted: they are a fifth of the work. */
    output(t) {
      const { C, V, x, head, norm, epsilon } = this;
      const [hidden, logits] = [new Float32Array(C), new Float32Array(V)];
      normalise(hidden, x.subarray(t * C, (t + 1) * C), norm, 1, C, epsilon);
      multiply(logits, head, hidden, 1, V, C);
      return logits;
    }

    /** Throws, in a sentence, for what cannot be read. */
    check(ids) {
      if (ids.length === 0) throw new Error("There is no token to read; begin with at least one, such as the end-of-text token.");
      if (ids.length > this.context) throw new Error(`The text has ${ids.length} tokens, and the model's context is ${this.context}; shorten the text.`);
      const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= this.V);
      if (wrong !== undefined) throw new Error(`The token ${wrong} is unknown to this model; its ids go from 0 to ${this.V - 1}.`);
    }

    /** The logits of what follows `ids`. What these have in common with the ids before them is in the cache, and not read again. */
    logits(ids, trace = null) {
      this.check(ids);
      let same = 0;
      while (same < ids.length - 1 && ids[same] === this.ids[same]) same += 1;
      this.ids.length = same; // if anything fails below, the cache is known to hold this much
      let count = 0;
      for (let start = same; start < ids.length; start += count) {
        count = Math.min(CHUNK, trace && start < ids.length - 1 ? ids.length - 1 - start : ids.length - start);
        this.read(ids.slice(start, start + count), start, start + count === ids.length ? trace : null);
        this.ids.push(...ids.slice(start, start + count));
      }
      return this.output(count - 1);
    }

    /** The logits after every one of `ids`, (T, V) in one array: what a test compares. */
    allLogits(ids) {
      this.check(ids);
      const all = new Float32Array(ids.length * this.V);
      this.ids = [];
      for (let start = 0; start < ids.length; start += CHUNK) {
        const part = ids.slice(start, start + CHUNK);
        this.read(part, start);
        part.forEach((_, t) => all.set(this.output(t), (start + t) * this.V));
      }
      this.ids = [...ids];
      return all;
    }

    /** What the last of `ids` met on its way: {embedding, layers: [{attention, stream, logits, …}], logits}. */
    inspect(ids) {
      const trace = {};
      const logits = this.logits(ids, trace);
      return { ...trace, logits, ids: [...ids], position: ids.length - 1 };
    }
  }

  // -------------------------------------------------------------------------------------------------- worker

  /** Bytes as they come: base64 text from a script, or a view of memory from a kernel. */
  function toBytes(part) {
    if (typeof part !== "string") return new Uint8Array(part.buffer ?? part, part.byteOffset ?? 0, part.byteLength);
    const text = atob(part);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  /** Answers the messages {call, kind, …} of a page with {call, result} or {call, error}, one after the other. */
  function serve(scope) {
    const parts = [];
    let model = null;
    const answers = {
      part: ({ part }) => parts.push(toBytes(part)),
      open({ config }) {
        const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
        let end = 0;
        for (const part of parts) whole.set(part, (end += part.length) - part.length);
        parts.length = 0;
        model = new Llama(config, readTensors(whole));
      },
      logits: ({ ids }) => model.logits(ids),
      inspect: ({ ids }) => model.inspect(ids),
    };
    scope.onmessage = ({ data }) => {
      try {
        scope.postMessage({ call: data.call, result: answers[data.kind](data) });
      } catch (error) {
        scope.postMessage({ call: data.call, error: { name: error.name, message: error.message } });
      }
    };
  }

  return { readTensors, Llama, toBytes, serve };
}

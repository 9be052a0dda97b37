// Renders equations for the builder: one JSON request a line on stdin, one JSON answer a line on stdout.
// argv[2] is the folder of the npm package katex. The answer holds the HTML (with MathML for screen readers) or an error.
const katex = require(process.argv[2]);

require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { tex, display } = JSON.parse(line);
  let answer;
  try {
    answer = { html: katex.renderToString(tex, { displayMode: display, throwOnError: true, strict: false }) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
});

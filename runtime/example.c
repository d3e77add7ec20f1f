/* Steps a bundle through a sequence: example BUNDLE < rows of floats > rows of floats.
 *
 *     cc example.c $(python -m conveyor.runtime) -o example
 */
#include <stdio.h>
#include <stdlib.h>

#include "conveyor.h"

int main(int argc, char** argv) {
  char error[256];
  conveyor_model* model;
  conveyor_session* session;
  if (argc != 2) return fprintf(stderr, "usage: example BUNDLE\n"), 2;
  if (conveyor_load(argv[1], &model, error, sizeof error) || conveyor_open(model, &session, error, sizeof error))
    return fprintf(stderr, "%s\n", error), 1;

  if (conveyor_tokens(model)) return fprintf(stderr, "this reads rows of floats; the bundle takes tokens\n"), 1;

  const size_t inputs = conveyor_inputs(model), outputs = conveyor_outputs(model);
  float* x = malloc(inputs * sizeof *x);
  while (fread(x, sizeof *x, inputs, stdin) == inputs) fwrite(conveyor_step(session, x), sizeof *x, outputs, stdout);

  free(x);
  conveyor_close(session);
  conveyor_free(model);
  return 0;
}

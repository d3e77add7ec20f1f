/* Counts what a step asks of the system: counted BUNDLE STEPS prints allocations and locks while it steps. glibc alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "conveyor.h"

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);
static long allocations, locks;

void* malloc(size_t size) { return ++allocations, __libc_malloc(size); }
void* calloc(size_t count, size_t size) { return ++allocations, __libc_calloc(count, size); }
void* realloc(void* at, size_t size) { return ++allocations, __libc_realloc(at, size); }
int posix_memalign(void** at, size_t to, size_t size) { return ++allocations, !(*at = __libc_memalign(to, size)); }
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static int (*real)(pthread_mutex_t*);
  if (!real) real = (int (*)(pthread_mutex_t*))dlsym(RTLD_NEXT, "pthread_mutex_lock");
  return ++locks, real(mutex);
}

int main(int argc, char** argv) {
  char error[256];
  conveyor_model* model;
  conveyor_session* session;
  if (argc != 3 || conveyor_load(argv[1], &model, error, sizeof error) || conveyor_open(model, &session, error, sizeof error))
    return 1;
  const long loading = allocations;
  float* x = calloc(conveyor_inputs(model), sizeof *x);
  allocations = locks = 0;
  float sum = 0;
  for (int n = 0; n < atoi(argv[2]); ++n) {
    if (n % 100 == 99) conveyor_reset(session);
    x[0] = conveyor_tokens(model) ? 0 : sum;
    sum = *(conveyor_tokens(model) ? conveyor_step_token(session, n % conveyor_tokens(model)) : conveyor_step(session, x));
  }
  const long counted = allocations, locked = locks;
  return printf("%d %ld %ld\n", loading > 0, counted, locked), 0;
}

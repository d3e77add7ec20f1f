/* Conveyor's runtime for C and C++: a bundle of `conveyor export`, a step at a time.
 *
 * Functions that can fail give 0 where all is well; else they give another number and put one sentence into `error`, which
 * has room for `room` characters. A model never changes: threads may share it. A session is one stream, for one thread at a
 * time. conveyor_step, conveyor_step_token and conveyor_reset allocate nothing, take no lock and make no system call: they
 * may be called where sound is made. */
#ifndef CONVEYOR_H
#define CONVEYOR_H

#include <stddef.h>
#include <stdint.h>

#if defined(CONVEYOR_EXPORTS) && defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct conveyor_model conveyor_model;
typedef struct conveyor_session conveyor_session;

/* The model of a file, or of a file's bytes, which may be freed behind it. */
int conveyor_load(const char* path, conveyor_model** model, char* error, size_t room);
int conveyor_read(const void* bytes, size_t size, conveyor_model** model, char* error, size_t room);
/* Sessions of it go on. */
void conveyor_free(conveyor_model* model);

size_t conveyor_inputs(const conveyor_model* model);  /* floats of a step */
size_t conveyor_outputs(const conveyor_model* model); /* floats it gives */
int64_t conveyor_tokens(const conveyor_model* model); /* how many tokens there are; 0: its input is floats */
const char* conveyor_facts(const conveyor_model* model, size_t* size); /* JSON, as long as the model is there */

/* A stream, from its beginning. Fails for a model that reads its sequences from both ends. */
int conveyor_open(const conveyor_model* model, conveyor_session** session, char* error, size_t room);
void conveyor_close(conveyor_session* session);

/* A step: conveyor_inputs floats, or a token of 0 up to conveyor_tokens; null if there is no such token, or the model takes
 * the other kind. The outputs stay until the next step. */
const float* conveyor_step(conveyor_session* session, const float* x);
const float* conveyor_step_token(conveyor_session* session, int64_t token);
void conveyor_reset(conveyor_session* session);

/* All that a stream remembers: `size` floats, which may be copied from one session of a model to another. */
float* conveyor_state(conveyor_session* session, size_t* size);

#ifdef __cplusplus
}
#endif

#if defined(CONVEYOR_EXPORTS) && defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif

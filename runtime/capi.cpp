// The runtime for C. No exception leaves it.
#include <algorithm>
#include <cstring>

#include "conveyor.h"
#include "model.hpp"

struct conveyor_model {
  std::shared_ptr<const conveyor::Model> model;
};

struct conveyor_session {
  explicit conveyor_session(std::shared_ptr<const conveyor::Model> model)
      : executor(model, 1, 1, 1), state(static_cast<std::size_t>(model->state)), row(state.data()) {}

  conveyor::Executor executor;
  std::vector<float> state;
  float* row;
};

namespace {

template <class Do>
int guarded(char* error, size_t room, const Do& what) {
  const char* said = "out of memory";
  std::string text;
  try {
    if (conveyor::isa_error()) throw std::runtime_error(conveyor::isa_error());
    what();
    return 0;
  } catch (const std::bad_alloc&) {
  } catch (const std::exception& thrown) {
    text = thrown.what();
    said = text.c_str();
  }
  if (error && room) {
    const size_t count = std::min(room - 1, std::strlen(said));
    std::memcpy(error, said, count);
    error[count] = 0;
  }
  return 1;
}

}  // namespace

int conveyor_load(const char* path, conveyor_model** model, char* error, size_t room) {
  return guarded(error, room, [&] { *model = new conveyor_model{conveyor::read_model(conveyor::read_file(path))}; });
}

int conveyor_read(const void* bytes, size_t size, conveyor_model** model, char* error, size_t room) {
  const auto* const from = static_cast<const unsigned char*>(bytes);
  return guarded(error, room, [&] { *model = new conveyor_model{conveyor::read_model({from, from + size})}; });
}

void conveyor_free(conveyor_model* model) { delete model; }

size_t conveyor_inputs(const conveyor_model* model) { return static_cast<size_t>(model->model->inputs()); }
size_t conveyor_outputs(const conveyor_model* model) { return static_cast<size_t>(model->model->outputs()); }
int64_t conveyor_tokens(const conveyor_model* model) { return model->model->tokens; }
const char* conveyor_facts(const conveyor_model* model, size_t* size) {
  *size = model->model->facts.size();
  return model->model->facts.c_str();
}

int conveyor_open(const conveyor_model* model, conveyor_session** session, char* error, size_t room) {
  return guarded(error, room, [&] {
    if (!model->model->streams)
      throw std::runtime_error(
          "[runtime] this model reads its sequences from both ends; it cannot be read step by step");
    *session = new conveyor_session(model->model);
  });
}

void conveyor_close(conveyor_session* session) { delete session; }

const float* conveyor_step(conveyor_session* session, const float* x) {
  return session->executor.model().tokens ? nullptr : session->executor.run(1, 1, x, nullptr, &session->row);
}

const float* conveyor_step_token(conveyor_session* session, int64_t token) {
  const bool known = token >= 0 && token < session->executor.model().tokens;
  return known ? session->executor.run(1, 1, nullptr, &token, &session->row) : nullptr;
}

void conveyor_reset(conveyor_session* session) { std::fill(session->state.begin(), session->state.end(), 0.0f); }

float* conveyor_state(conveyor_session* session, size_t* size) {
  *size = session->state.size();
  return session->state.data();
}

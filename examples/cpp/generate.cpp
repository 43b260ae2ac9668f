// Greedy generation from a neort bundle with onnxruntime's C++ interface: token ids in, token ids out.
//
//     c++ -std=c++17 -O2 generate.cpp -I ONNXRUNTIME/include -L ONNXRUNTIME/lib -lonnxruntime -o generate
//     echo 464 2368 | LD_LIBRARY_PATH=ONNXRUNTIME/lib ./generate BUNDLE 20
//
// Each line of the input is a prompt; each line of the output is what follows on it, 20 tokens at most.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace fs = std::filesystem;
using Ids = std::vector<int64_t>;

const std::string PAST = "past_key_values.", PRESENT = "present.";

// The integer, or the integers, of a member of one of the bundle's JSON files, which are flat; none where it is null.
Ids integers(const fs::path& file, const std::string& member) {
  std::ifstream stream(file);
  if (!stream) throw std::runtime_error("cannot read " + file.string() + "; name the folder of a bundle");
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const size_t name = text.find('"' + member + '"');
  if (name == std::string::npos) return {};
  const size_t first = text.find_first_not_of(" \t\r\n", text.find(':', name) + 1);
  std::string value = text.substr(first, text.find_first_of(text.at(first) == '[' ? "]" : ",}", first) - first);
  for (char& c : value)
    if (!std::isdigit(static_cast<unsigned char>(c)) && c != '-') c = ' ';
  std::istringstream words(value);
  return Ids{std::istream_iterator<int64_t>(words), {}};
}

// A tensor [1, N] over `ids`, which must outlive it.
Ort::Value row(Ids& ids) {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const int64_t shape[] = {1, static_cast<int64_t>(ids.size())};
  return Ort::Value::CreateTensor<int64_t>(memory, ids.data(), ids.size(), shape, 2);
}

class Model {
 public:
  explicit Model(const fs::path& bundle)
      : session_(open(bundle)),
        ends_(integers(bundle / "generation_config.json", "eos_token_id")),
        positions_(integers(bundle / "config.json", "max_position_embeddings").at(0)) {
    Ort::AllocatorWithDefaultOptions allocator;
    for (size_t i = 0; i < session_.GetOutputCount(); ++i) {
      const std::string name = session_.GetOutputNameAllocated(i, allocator).get();
      if (name.compare(0, PRESENT.size(), PRESENT) != 0) continue;
      present_.push_back(name);
      past_.push_back(PAST + name.substr(PRESENT.size()));
      const auto type = session_.GetOutputTypeInfo(i);
      const auto shape = type.GetTensorTypeAndShapeInfo().GetShape();
      empty_shapes_.push_back({1, shape[1], 0, shape[3]});
    }
  }

  // The most likely tokens after `prompt`, at most `count`; the last one may be an end of text.
  Ids generate(Ids prompt, size_t count) {
    Ids tokens;
    std::vector<Ort::Value> past = empty();
    int64_t length = 0;
    for (Ids ids = std::move(prompt); tokens.size() < count;) {
      const int64_t total = length + static_cast<int64_t>(ids.size());
      if (total > positions_) break;
      const int64_t token = step(ids, length, past);
      tokens.push_back(token);
      if (std::count(ends_.begin(), ends_.end(), token)) break;
      length = total;
      ids = {token};
    }
    return tokens;
  }

 private:
  // onnxruntime finds weights.data beside model.onnx by itself.
  Ort::Session open(const fs::path& bundle) {
    Ort::SessionOptions options;
    options.AddConfigEntry("session.x64quantprecision", "1");  // exact int8 products on x86 without VNNI, too
    return Ort::Session(env_, (bundle / "model.onnx").c_str(), options);
  }

  std::vector<Ort::Value> empty() {
    std::vector<Ort::Value> past;
    Ort::AllocatorWithDefaultOptions allocator;
    for (const auto& shape : empty_shapes_)
      past.push_back(Ort::Value::CreateTensor<float>(allocator, shape.data(), shape.size()));
    return past;
  }

  // One run: `ids` follow on `length` tokens whose keys and values are `past`, which becomes that of all of them.
  int64_t step(Ids& ids, int64_t length, std::vector<Ort::Value>& past) {
    Ids mask(length + ids.size(), 1), positions(ids.size());
    std::iota(positions.begin(), positions.end(), length);
    std::vector<const char*> inputs{"input_ids", "attention_mask", "position_ids"}, outputs{"logits"};
    for (const auto& name : past_) inputs.push_back(name.c_str());
    for (const auto& name : present_) outputs.push_back(name.c_str());
    std::vector<Ort::Value> values;
    values.push_back(row(ids));
    values.push_back(row(mask));
    values.push_back(row(positions));
    std::move(past.begin(), past.end(), std::back_inserter(values));
    auto results = session_.Run(Ort::RunOptions{nullptr}, inputs.data(), values.data(), values.size(), outputs.data(),
                                outputs.size());
    past.assign(std::make_move_iterator(results.begin() + 1), std::make_move_iterator(results.end()));
    const auto shape = results[0].GetTensorTypeAndShapeInfo().GetShape();  // [1, S, V]
    const float* last = results[0].GetTensorData<float>() + (shape[1] - 1) * shape[2];
    return std::max_element(last, last + shape[2]) - last;
  }

  Ort::Env env_;
  Ort::Session session_;
  Ids ends_;
  int64_t positions_;
  std::vector<std::string> past_, present_;
  std::vector<std::vector<int64_t>> empty_shapes_;
};

int main(int count, char** arguments) {
  if (count != 3) {
    std::cerr << "usage: generate BUNDLE NEW_TOKENS < LINES_OF_IDS\n";
    return 2;
  }
  try {
    Model model(arguments[1]);
    const size_t new_tokens = std::stoul(arguments[2]);
    for (std::string line; std::getline(std::cin, line);) {
      std::istringstream words(line);
      const Ids prompt{std::istream_iterator<int64_t>(words), {}};
      if (prompt.empty()) throw std::runtime_error("a line has no token ids: write them with spaces between them");
      for (const int64_t token : model.generate(prompt, new_tokens)) std::cout << token << ' ';
      std::cout << std::endl;
    }
  } catch (const std::exception& error) {
    std::cerr << "generate: " << error.what() << '\n';
    return 1;
  }
  return 0;
}

// The plot of WritePlot: one panel a text, bytes a token (fetched, and scanned
// as 4-bit codes) on a logarithmic axis, rise of the loss upwards, close to
// linear around none and logarithmic far from it.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "eval/report.h"

namespace forecache::eval {
namespace {

constexpr int kPanelWidth = 360, kPanelHeight = 260;
constexpr int kLeft = 60, kTop = 30, kBottom = 40, kRight = 20;
constexpr int kLegendWidth = 260;
constexpr double kCodeShare = 0.25;  // bytes of a 4-bit code of 16-bit keys
constexpr double kBytesLeast = 1 << 20;  // what is less is drawn here
constexpr double kRiseLinear = 0.01;     // up to about here
constexpr double kRiseTicks[] = {-0.01, 0, 0.01, 0.03, 0.1, 0.3, 1, 3};
const char* const kColours[] = {"#1b6ca8", "#d1495b", "#3a7d44", "#b5651d",
                                "#6a4c93", "#008080", "#8a8a00", "#c71585",
                                "#555555", "#2f4f4f", "#ff7f0e", "#17becf"};

double BytesOf(const Row& row) {
  return std::max(kBytesLeast, row.fetch_bytes + kCodeShare * row.scan_bytes);
}

double Height(double rise) { return std::asinh(rise / kRiseLinear); }

struct Axes {
  double log_low = std::log10(kBytesLeast), log_high = log_low + 0.1;
  double low = Height(kRiseTicks[0]), high = Height(kRiseTicks[3]);

  void Cover(const Row& row) {
    log_high = std::max(log_high, std::log10(BytesOf(row)));
    low = std::min(low, Height(row.dnll));
    high = std::max(high, Height(row.dnll));
  }
  double X(const Row& row) const {
    return kLeft + (std::log10(BytesOf(row)) - log_low) /
                       (log_high - log_low) * (kPanelWidth - kLeft - kRight);
  }
  double Y(double rise) const {
    return kTop + (high - Height(rise)) / (high - low) *
                      (kPanelHeight - kTop - kBottom);
  }
};

// How a policy is drawn: colours go round, filled and then hollow.
struct Look {
  std::string policy;
  const char* colour;
  const char* fill;
};

void Label(std::string* svg, double x, double y, const char* anchor,
           const std::string& text) {
  absl::StrAppendFormat(
      svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y,
      anchor, text);
}

void Panel(const std::string& text, const std::vector<Row>& rows,
           const std::vector<Look>& looks, std::string* svg) {
  Axes axes;
  for (const Row& row : rows) {
    if (row.text == text && row.tokens > 0) axes.Cover(row);
  }
  Label(svg, kPanelWidth / 2.0, kTop - 12, "middle", text);
  absl::StrAppendFormat(svg,
                        "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" "
                        "fill=\"none\" stroke=\"#999\"/>\n",
                        kLeft, kTop, kPanelWidth - kLeft - kRight,
                        kPanelHeight - kTop - kBottom);
  absl::StrAppendFormat(svg,
                        "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" "
                        "stroke=\"#bbb\" stroke-dasharray=\"3\"/>\n",
                        kLeft, kPanelWidth - kRight, axes.Y(0), axes.Y(0));
  for (const double rise : kRiseTicks) {
    if (Height(rise) > axes.high) break;
    Label(svg, kLeft - 4, axes.Y(rise) + 4, "end", absl::StrCat(rise));
  }
  const int base = kPanelHeight - kBottom + 14;
  Label(svg, kLeft, base, "start",
        absl::StrFormat("%.0f MiB or less", kBytesLeast / (1 << 20)));
  Label(svg, kPanelWidth - kRight, base, "end",
        absl::StrFormat("%.0f MiB a token",
                        std::pow(10, axes.log_high) / (1 << 20)));
  for (const Look& look : looks) {
    std::vector<const Row*> line;
    for (const Row& row : rows) {
      if (row.text == text && row.policy == look.policy && row.tokens > 0) {
        line.push_back(&row);
      }
    }
    std::sort(line.begin(), line.end(), [](const Row* a, const Row* b) {
      return a->compression < b->compression;
    });
    std::string points, circles;
    for (const Row* row : line) {
      absl::StrAppendFormat(&points, "%.1f,%.1f ", axes.X(*row),
                            axes.Y(row->dnll));
      absl::StrAppendFormat(
          &circles,
          "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\" "
          "stroke=\"%s\"><title>%s at %s: %.4f</title></circle>\n",
          axes.X(*row), axes.Y(row->dnll), look.fill, look.colour, row->policy,
          row->budget, row->dnll);
    }
    absl::StrAppendFormat(
        svg, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\"/>\n%s",
        points, look.colour, circles);
  }
}

}  // namespace

absl::Status WritePlot(const std::string& path, const std::vector<Row>& rows) {
  std::vector<std::string> texts;
  std::vector<Look> looks;
  for (const Row& row : rows) {
    if (row.tokens == 0 || row.policy == "exact") continue;
    if (std::find(texts.begin(), texts.end(), row.text) == texts.end()) {
      texts.push_back(row.text);
    }
    if (std::none_of(looks.begin(), looks.end(), [&row](const Look& look) {
          return look.policy == row.policy;
        })) {
      const char* colour = kColours[looks.size() % std::size(kColours)];
      const bool filled = looks.size() < std::size(kColours);
      looks.push_back({row.policy, colour, filled ? colour : "white"});
    }
  }
  const int columns = std::min<int>(std::max<int>(texts.size(), 1), 2);
  const int lines = (static_cast<int>(texts.size()) + columns - 1) / columns;
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      columns * kPanelWidth + kLegendWidth,
      std::max(lines * kPanelHeight, 20 * int(looks.size()) + kTop));
  for (size_t i = 0; i < texts.size(); ++i) {
    absl::StrAppendFormat(&svg, "<g transform=\"translate(%d,%d)\">\n",
                          int(i % columns) * kPanelWidth,
                          int(i / columns) * kPanelHeight);
    Panel(texts[i], rows, looks, &svg);
    svg += "</g>\n";
  }
  int y = kTop;
  for (const Look& look : looks) {
    absl::StrAppendFormat(&svg,
                          "<circle cx=\"%d\" cy=\"%d\" r=\"4\" fill=\"%s\" "
                          "stroke=\"%s\"/>\n",
                          columns * kPanelWidth + 8, y - 4, look.fill,
                          look.colour);
    Label(&svg, columns * kPanelWidth + 18, y, "start", look.policy);
    y += 18;
  }
  std::ofstream file(path);
  file << svg << "</svg>\n";
  file.close();
  return file.good() ? absl::OkStatus()
                     : absl::UnavailableError(
                           absl::StrCat("--plot: cannot write ", path));
}

}  // namespace forecache::eval

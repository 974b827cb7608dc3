import Foundation

/// Upright pixels, row by row, channels together.
public struct Pixels {
    public let width: Int
    public let height: Int
    public let channels: Int
    public let data: [UInt8]

    public init(width: Int, height: Int, channels: Int, data: [UInt8]) {
        self.width = width
        self.height = height
        self.channels = channels
        self.data = data
    }
}

/// What `preprocess.json` of a bundle says of resizing.
public struct Spec: Decodable {
    public let size: [Int]
    public let resize: String
    public let crop: Double
    public let interpolation: String
    public let mean: [Double]
    public let depth: Int
    public let region: [Double]?
    public let window: [Double]?

    public var height: Int { size[0] }
    public var width: Int { size[1] }
}

/// A part of an image, in single precision as Pillow keeps boxes.
public struct Box {
    let left: Float
    let top: Float
    let right: Float
    let bottom: Float
}

/// For each output sample: the first input sample, and the integer weights of it and those that follow.
public struct Weights {
    let first: [Int]
    let values: [[Int]]
}

/// To the pixels of the network's size, to the bit as Sortal prepares them (Pillow's resize of 8-bit images). The same
/// functions are in `Preprocess.kt`, and in Python where Sortal's tests hold them against the reference.
///
/// Not covered: 16-bit images, an intensity `window`, a `region`, and the filter `nearest`.
public enum Preprocess {
    static let precisionBits = 32 - 8 - 2
    static let elongated = 16

    public static func prepare(_ spec: Spec, _ image: Pixels) -> Pixels {
        if spec.resize == "stretch" {
            return resize(image, spec.width, spec.height, spec.interpolation)
        }
        if spec.resize == "pad" {
            let (width, height) = fitInside(image.width, image.height, spec.width, spec.height)
            return pad(spec, resize(image, width, height, spec.interpolation))
        }
        let targetHeight = Int((Double(spec.height) / spec.crop).rounded(.down))
        let targetWidth = Int((Double(spec.width) / spec.crop).rounded(.down))
        let (width, height) = cover(image.width, image.height, targetWidth, targetHeight)
        if width * height > elongated * targetWidth * targetHeight {
            let left = roundHalfEven(Double(width - spec.width) / 2)
            let top = roundHalfEven(Double(height - spec.height) / 2)
            let down = Double(image.height) / Double(height)
            let across = Double(image.width) / Double(width)
            let box = Box(
                left: Float(Double(left) * across),
                top: Float(Double(top) * down),
                right: Float(Double(left + spec.width) * across),
                bottom: Float(Double(top + spec.height) * down)
            )
            return resize(image, spec.width, spec.height, spec.interpolation, box)
        }
        return centerCrop(resize(image, width, height, spec.interpolation), spec.width, spec.height)
    }

    static func cover(_ width: Int, _ height: Int, _ targetWidth: Int, _ targetHeight: Int) -> (Int, Int) {
        if height * targetWidth <= width * targetHeight {
            return (max(targetWidth, width * targetHeight / height), targetHeight)
        }
        return (targetWidth, max(targetHeight, height * targetWidth / width))
    }

    static func fitInside(_ width: Int, _ height: Int, _ targetWidth: Int, _ targetHeight: Int) -> (Int, Int) {
        if height * targetWidth >= width * targetHeight {
            return (max(1, roundHalfEven(Double(width * targetHeight) / Double(height))), targetHeight)
        }
        return (targetWidth, max(1, roundHalfEven(Double(height * targetWidth) / Double(width))))
    }

    static func centerCrop(_ image: Pixels, _ width: Int, _ height: Int) -> Pixels {
        let left = roundHalfEven(Double(image.width - width) / 2)
        let top = roundHalfEven(Double(image.height - height) / 2)
        var out = [UInt8]()
        out.reserveCapacity(width * height * image.channels)
        for y in top..<(top + height) {
            let start = (y * image.width + left) * image.channels
            out.append(contentsOf: image.data[start..<(start + width * image.channels)])
        }
        return Pixels(width: width, height: height, channels: image.channels, data: out)
    }

    static func pad(_ spec: Spec, _ image: Pixels) -> Pixels {
        let fill = spec.mean.map { UInt8(roundHalfEven(min(max($0, 0), 1) * 255)) }
        var out = (0..<(spec.width * spec.height * image.channels)).map { fill[$0 % image.channels] }
        let left = (spec.width - image.width) / 2
        let top = (spec.height - image.height) / 2
        let row = image.width * image.channels
        for y in 0..<image.height {
            let start = ((top + y) * spec.width + left) * image.channels
            out.replaceSubrange(start..<(start + row), with: image.data[(y * row)..<((y + 1) * row)])
        }
        return Pixels(width: spec.width, height: spec.height, channels: image.channels, data: out)
    }

    /// Across and down, each with integer weights of 22 bits and a result of 8. The order matters to the last bits:
    /// Pillow 13 goes down first where that takes away far more than going across.
    static func resize(
        _ image: Pixels, _ width: Int, _ height: Int, _ interpolation: String, _ box: Box? = nil
    ) -> Pixels {
        let part = box ?? Box(left: 0, top: 0, right: Float(image.width), bottom: Float(image.height))
        let across = width != image.width || part.left != 0 || part.right != Float(width)
        let down = height != image.height || part.top != 0 || part.bottom != Float(height)
        let rows = weights(image.height, part.top, part.bottom, height, interpolation)
        let columns = weights(image.width, part.left, part.right, width, interpolation)
        let downFirst = height < image.height && image.height - height > 2 * (image.width - width)
        var result = down && downFirst ? resizeDown(image, rows) : image
        if across {
            result = resizeAcross(result, columns)
        }
        return down && !downFirst ? resizeDown(result, rows) : result
    }

    static func weights(_ size: Int, _ start: Float, _ end: Float, _ count: Int, _ interpolation: String) -> Weights {
        let scale = Double(end - start) / Double(count)
        let filterScale = max(scale, 1)
        let support = filterSupport(interpolation) * filterScale
        var first = [Int]()
        var values = [[Int]]()
        for place in 0..<count {
            let center = Double(start) + (Double(place) + 0.5) * scale
            let low = max(Int(center - support + 0.5), 0)
            let high = min(Int(center + support + 0.5), size)
            let step = 1 / filterScale
            let raw = (0..<(high - low)).map { filterValue(interpolation, (Double($0 + low) - center + 0.5) * step) }
            var total = 0.0
            for one in raw { total += one }
            first.append(low)
            values.append(raw.map { toFixed(total != 0 ? $0 / total : $0) })
        }
        return Weights(first: first, values: values)
    }

    static func toFixed(_ value: Double) -> Int {
        let scaled = value * Double(1 << precisionBits)
        return value < 0 ? Int(scaled - 0.5) : Int(scaled + 0.5)
    }

    static func resizeAcross(_ image: Pixels, _ across: Weights) -> Pixels {
        let width = across.first.count
        let channels = image.channels
        var out = [UInt8](repeating: 0, count: width * image.height * channels)
        for y in 0..<image.height {
            for x in 0..<width {
                for channel in 0..<channels {
                    var total = 1 << (precisionBits - 1)
                    let start = (y * image.width + across.first[x]) * channels + channel
                    for (offset, weight) in across.values[x].enumerated() {
                        total += Int(image.data[start + offset * channels]) * weight
                    }
                    out[(y * width + x) * channels + channel] = clip(total >> precisionBits)
                }
            }
        }
        return Pixels(width: width, height: image.height, channels: channels, data: out)
    }

    static func resizeDown(_ image: Pixels, _ down: Weights) -> Pixels {
        let height = down.first.count
        let row = image.width * image.channels
        var out = [UInt8](repeating: 0, count: row * height)
        for y in 0..<height {
            for place in 0..<row {
                var total = 1 << (precisionBits - 1)
                for (offset, weight) in down.values[y].enumerated() {
                    total += Int(image.data[(down.first[y] + offset) * row + place]) * weight
                }
                out[y * row + place] = clip(total >> precisionBits)
            }
        }
        return Pixels(width: image.width, height: height, channels: image.channels, data: out)
    }

    static func clip(_ value: Int) -> UInt8 {
        UInt8(min(max(value, 0), 255))
    }

    static func filterSupport(_ interpolation: String) -> Double {
        switch interpolation {
        case "box": return 0.5
        case "bilinear", "hamming": return 1
        case "bicubic": return 2
        case "lanczos": return 3
        default: fatalError("this sample has no filter \(interpolation)")
        }
    }

    static func filterValue(_ interpolation: String, _ at: Double) -> Double {
        let x = abs(at)
        switch interpolation {
        case "box":
            return at > -0.5 && at <= 0.5 ? 1 : 0
        case "bilinear":
            return x < 1 ? 1 - x : 0
        case "hamming":
            if x == 0 { return 1 }
            if x >= 1 { return 0 }
            return sin(x * Double.pi) / (x * Double.pi) * (0.54 + 0.46 * cos(x * Double.pi))
        case "bicubic":
            if x < 1 { return ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1 }
            return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0
        default:
            return at >= -3 && at < 3 ? sinc(at) * sinc(at / 3) : 0
        }
    }

    static func sinc(_ x: Double) -> Double {
        x == 0 ? 1 : sin(x * Double.pi) / (x * Double.pi)
    }

    /// As Python's `round`: halves go to the even neighbor.
    static func roundHalfEven(_ value: Double) -> Int {
        Int(value.rounded(.toNearestOrEven))
    }
}

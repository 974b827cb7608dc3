import CoreGraphics
import CoreML
import CoreVideo
import Foundation

public struct Answer {
    public let label: String
    public let probability: Double
}

public enum SampleError: Error {
    case notAnImageModel(String)
    case cannotDraw
}

/// The artifact `coreml`: its compiled `model.mlpackage` (Xcode does it, or `MLModel.compileModel(at:)`), and
/// `preprocess.json` of the same bundle. The model normalizes and names classes itself.
public final class Classifier {
    private let model: MLModel
    private let spec: Spec

    /// `units` is a wish: Core ML places each layer on CPU, GPU or Neural Engine as it can, and Xcode's performance
    /// report of the model says where they went.
    public init(compiledModel: URL, preprocess: URL, units: MLComputeUnits = .all) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        model = try MLModel(contentsOf: compiledModel, configuration: configuration)
        spec = try JSONDecoder().decode(Spec.self, from: Data(contentsOf: preprocess))
        guard spec.depth == 8, spec.region == nil, spec.window == nil else {
            throw SampleError.notAnImageModel("this sample takes 8-bit images without region and window")
        }
        guard model.modelDescription.inputDescriptionsByName["image"]?.type == .image else {
            throw SampleError.notAnImageModel("the input image of the model is not of Core ML's type image")
        }
    }

    /// An upright picture; turn it by its orientation first.
    public func classify(_ picture: CGImage) throws -> Answer {
        let prepared = Preprocess.prepare(spec, try pixels(of: picture))
        let input = MLFeatureValue(pixelBuffer: try buffer(of: prepared))
        let output = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: ["image": input]))
        let description = model.modelDescription
        guard let labelName = description.predictedFeatureName,
            let label = output.featureValue(for: labelName)?.stringValue
        else { throw SampleError.notAnImageModel("the model names no class") }
        let all = description.predictedProbabilitiesName.flatMap { output.featureValue(for: $0)?.dictionaryValue }
        return Answer(label: label, probability: all?[label]?.doubleValue ?? .nan)
    }

    private func pixels(of picture: CGImage) throws -> Pixels {
        let (width, height) = (picture.width, picture.height)
        var rgba = [UInt8](repeating: 0, count: width * height * 4)
        let drawn = rgba.withUnsafeMutableBytes { raw -> Bool in
            guard
                let context = CGContext(
                    data: raw.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: width * 4,
                    space: CGColorSpace(name: CGColorSpace.sRGB)!,
                    bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
                )
            else { return false }
            context.interpolationQuality = .none
            context.draw(picture, in: CGRect(x: 0, y: 0, width: width, height: height))
            return true
        }
        guard drawn else { throw SampleError.cannotDraw }
        var rgb = [UInt8]()
        rgb.reserveCapacity(width * height * 3)
        for start in stride(from: 0, to: rgba.count, by: 4) {
            rgb.append(contentsOf: rgba[start..<(start + 3)])
        }
        return Pixels(width: width, height: height, channels: 3, data: rgb)
    }

    private func buffer(of pixels: Pixels) throws -> CVPixelBuffer {
        var made: CVPixelBuffer?
        CVPixelBufferCreate(nil, pixels.width, pixels.height, kCVPixelFormatType_32BGRA, nil, &made)
        guard let made else { throw SampleError.cannotDraw }
        CVPixelBufferLockBaseAddress(made, [])
        defer { CVPixelBufferUnlockBaseAddress(made, []) }
        guard let base = CVPixelBufferGetBaseAddress(made)?.assumingMemoryBound(to: UInt8.self) else {
            throw SampleError.cannotDraw
        }
        let stride = CVPixelBufferGetBytesPerRow(made)
        for y in 0..<pixels.height {
            for x in 0..<pixels.width {
                let (from, to) = ((y * pixels.width + x) * 3, y * stride + x * 4)
                base[to] = pixels.data[from + 2]
                base[to + 1] = pixels.data[from + 1]
                base[to + 2] = pixels.data[from]
                base[to + 3] = 255
            }
        }
        return made
    }
}

package sortal.sample

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.cos
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sin

/**
 * Upright pixels to the pixels of the network's size, to the bit as Sortal prepares them (Pillow's resize of 8-bit
 * images). Plain Kotlin without Android, so that `PreprocessTest` runs on any machine. The same functions are in
 * `Preprocess.swift`, and in Python where Sortal's tests hold them against the reference.
 *
 * Not covered: 16-bit images, an intensity `window`, a `region`, and the filter `nearest`.
 */
class Pixels(val width: Int, val height: Int, val channels: Int, val data: ByteArray) {
    fun at(index: Int): Int = data[index].toInt() and 0xff
}

/** What `preprocess.json` of a bundle says of resizing. */
data class Spec(
    val height: Int,
    val width: Int,
    val resize: String,
    val crop: Double,
    val interpolation: String,
    val mean: List<Double>,
)

/** A part of an image, in single precision as Pillow keeps boxes. */
data class Box(val left: Float, val top: Float, val right: Float, val bottom: Float)

/** For each output sample: the first input sample, and the integer weights of it and those that follow. */
class Weights(val first: IntArray, val values: Array<IntArray>)

object Preprocess {
    private const val PRECISION_BITS = 32 - 8 - 2
    private const val ELONGATED = 16

    fun prepare(spec: Spec, image: Pixels): Pixels {
        if (spec.resize == "stretch") return resize(image, spec.width, spec.height, spec.interpolation)
        if (spec.resize == "pad") {
            val (width, height) = fitInside(image.width, image.height, spec.width, spec.height)
            return pad(spec, resize(image, width, height, spec.interpolation))
        }
        val targetHeight = floor(spec.height / spec.crop).toInt()
        val targetWidth = floor(spec.width / spec.crop).toInt()
        val (width, height) = cover(image.width, image.height, targetWidth, targetHeight)
        if (width.toLong() * height > ELONGATED.toLong() * targetWidth * targetHeight) {
            val left = roundHalfEven((width - spec.width) / 2.0)
            val top = roundHalfEven((height - spec.height) / 2.0)
            val down = image.height.toDouble() / height
            val across = image.width.toDouble() / width
            val box = Box(
                (left * across).toFloat(),
                (top * down).toFloat(),
                ((left + spec.width) * across).toFloat(),
                ((top + spec.height) * down).toFloat(),
            )
            return resize(image, spec.width, spec.height, spec.interpolation, box)
        }
        return centerCrop(resize(image, width, height, spec.interpolation), spec.width, spec.height)
    }

    fun cover(width: Int, height: Int, targetWidth: Int, targetHeight: Int): Pair<Int, Int> =
        if (height.toLong() * targetWidth <= width.toLong() * targetHeight) {
            Pair(max(targetWidth, (width.toLong() * targetHeight / height).toInt()), targetHeight)
        } else {
            Pair(targetWidth, max(targetHeight, (height.toLong() * targetWidth / width).toInt()))
        }

    fun fitInside(width: Int, height: Int, targetWidth: Int, targetHeight: Int): Pair<Int, Int> =
        if (height.toLong() * targetWidth >= width.toLong() * targetHeight) {
            Pair(max(1, roundHalfEven(width.toDouble() * targetHeight / height)), targetHeight)
        } else {
            Pair(targetWidth, max(1, roundHalfEven(height.toDouble() * targetWidth / width)))
        }

    fun centerCrop(image: Pixels, width: Int, height: Int): Pixels {
        val left = roundHalfEven((image.width - width) / 2.0)
        val top = roundHalfEven((image.height - height) / 2.0)
        val row = width * image.channels
        val out = ByteArray(row * height)
        for (y in 0 until height) {
            val start = ((top + y) * image.width + left) * image.channels
            image.data.copyInto(out, y * row, start, start + row)
        }
        return Pixels(width, height, image.channels, out)
    }

    fun pad(spec: Spec, image: Pixels): Pixels {
        val fill = spec.mean.map { roundHalfEven(min(max(it, 0.0), 1.0) * 255.0).toByte() }
        val out = ByteArray(spec.width * spec.height * image.channels) { fill[it % image.channels] }
        val left = (spec.width - image.width) / 2
        val top = (spec.height - image.height) / 2
        val row = image.width * image.channels
        for (y in 0 until image.height) {
            image.data.copyInto(out, ((top + y) * spec.width + left) * image.channels, y * row, (y + 1) * row)
        }
        return Pixels(spec.width, spec.height, image.channels, out)
    }

    /**
     * Across and down, each with integer weights of 22 bits and a result of 8. The order matters to the last bits:
     * Pillow 13 goes down first where that takes away far more than going across.
     */
    fun resize(image: Pixels, width: Int, height: Int, interpolation: String, box: Box? = null): Pixels {
        val part = box ?: Box(0f, 0f, image.width.toFloat(), image.height.toFloat())
        val across = width != image.width || part.left != 0f || part.right != width.toFloat()
        val down = height != image.height || part.top != 0f || part.bottom != height.toFloat()
        val rows = weights(image.height, part.top, part.bottom, height, interpolation)
        val columns = weights(image.width, part.left, part.right, width, interpolation)
        val downFirst = height < image.height && image.height - height > 2 * (image.width - width)
        var result = if (down && downFirst) resizeDown(image, rows) else image
        if (across) result = resizeAcross(result, columns)
        return if (down && !downFirst) resizeDown(result, rows) else result
    }

    fun weights(size: Int, start: Float, end: Float, count: Int, interpolation: String): Weights {
        val scale = (end - start).toDouble() / count
        val filterScale = max(scale, 1.0)
        val support = filterSupport(interpolation) * filterScale
        val first = IntArray(count)
        val values = Array(count) { place ->
            val center = start.toDouble() + (place + 0.5) * scale
            val low = max((center - support + 0.5).toInt(), 0)
            val high = min((center + support + 0.5).toInt(), size)
            val step = 1.0 / filterScale
            val raw = DoubleArray(high - low) { filterValue(interpolation, (it + low - center + 0.5) * step) }
            var total = 0.0
            for (one in raw) total += one
            first[place] = low
            IntArray(raw.size) { toFixed(if (total != 0.0) raw[it] / total else raw[it]) }
        }
        return Weights(first, values)
    }

    fun toFixed(value: Double): Int {
        val scaled = value * (1 shl PRECISION_BITS)
        return if (value < 0) (scaled - 0.5).toInt() else (scaled + 0.5).toInt()
    }

    fun resizeAcross(image: Pixels, across: Weights): Pixels {
        val width = across.first.size
        val channels = image.channels
        val out = ByteArray(width * image.height * channels)
        for (y in 0 until image.height) for (x in 0 until width) for (channel in 0 until channels) {
            var total = 1 shl (PRECISION_BITS - 1)
            val start = (y * image.width + across.first[x]) * channels + channel
            val own = across.values[x]
            for (offset in own.indices) total += image.at(start + offset * channels) * own[offset]
            out[(y * width + x) * channels + channel] = clip(total shr PRECISION_BITS)
        }
        return Pixels(width, image.height, channels, out)
    }

    fun resizeDown(image: Pixels, down: Weights): Pixels {
        val height = down.first.size
        val channels = image.channels
        val row = image.width * channels
        val out = ByteArray(row * height)
        for (y in 0 until height) for (place in 0 until row) {
            var total = 1 shl (PRECISION_BITS - 1)
            val own = down.values[y]
            for (offset in own.indices) total += image.at((down.first[y] + offset) * row + place) * own[offset]
            out[y * row + place] = clip(total shr PRECISION_BITS)
        }
        return Pixels(image.width, height, channels, out)
    }

    private fun clip(value: Int): Byte = min(max(value, 0), 255).toByte()

    fun filterSupport(interpolation: String): Double = when (interpolation) {
        "box" -> 0.5
        "bilinear", "hamming" -> 1.0
        "bicubic" -> 2.0
        "lanczos" -> 3.0
        else -> throw IllegalArgumentException("this sample has no filter $interpolation")
    }

    fun filterValue(interpolation: String, at: Double): Double {
        val x = abs(at)
        return when (interpolation) {
            "box" -> if (at > -0.5 && at <= 0.5) 1.0 else 0.0
            "bilinear" -> if (x < 1.0) 1.0 - x else 0.0
            "hamming" ->
                if (x == 0.0) 1.0
                else if (x >= 1.0) 0.0
                else sin(x * PI) / (x * PI) * (0.54 + 0.46 * cos(x * PI))
            "bicubic" ->
                if (x < 1.0) ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1.0
                else if (x < 2.0) (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
                else 0.0
            else -> if (at >= -3.0 && at < 3.0) sinc(at) * sinc(at / 3.0) else 0.0
        }
    }

    fun sinc(x: Double): Double = if (x == 0.0) 1.0 else sin(x * PI) / (x * PI)

    /** As Python's `round`: halves go to the even neighbor. */
    fun roundHalfEven(value: Double): Int {
        val below = floor(value)
        val rest = value - below
        return when {
            rest < 0.5 -> below
            rest > 0.5 -> ceil(value)
            below.toLong() % 2L == 0L -> below
            else -> below + 1.0
        }.toInt()
    }
}
